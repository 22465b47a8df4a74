"""The message types of all services, by name on the wire and by the part they play.

Derived from the services' messages.py: a message that is added there appears here by itself.
"""

from collections.abc import Iterable

from broker.message import Command, Event, Message
from services.delivery import messages as delivery
from services.inventory import messages as inventory
from services.order import messages as order
from services.payment import messages as payment
from services.vocabulary import StepFailed


def _messages(module: object) -> Iterable[type[Message]]:
    kinds = (value for value in vars(module).values() if isinstance(value, type) and issubclass(value, Message))
    return (kind for kind in kinds if kind.__module__ == getattr(module, "__name__", ""))


#: The services by name, which is also the name of the worker and of the store that keeps its documents.
ORDER = order.PlaceOrder.service
INVENTORY = inventory.ReserveStock.service
PAYMENT = payment.AuthorizePayment.service
DELIVERY = delivery.ScheduleDelivery.service

#: The name of the HTTP API: as a worker, as the sender of its messages, and of its queue and database.
API_NAME = "api"

#: The commands that the HTTP API sends to the order service: the only ones that come from outside.
API_COMMANDS: tuple[type[Command], ...] = (order.PlaceOrder, order.WithdrawOrder)

#: The inputs that a worker creates for itself, from a timer or from the answer to an external call. They never travel, and they
#: carry the id of the message that caused them, so several may have the same id.
LOCAL_INPUTS: tuple[type[Command], ...] = (order.DeadlinePassed, payment.GatewayAnswered, payment.PollGateway)

#: The commands that travel in neither mode: the local inputs, and MarkForAttention, which in choreography the order service makes
#: from an escalation that it receives.
NEVER_SENT: tuple[type[Command], ...] = (*LOCAL_INPUTS, order.MarkForAttention)

#: The events that end an order.
FINAL_EVENTS: tuple[type[Event], ...] = (order.OrderCompleted, order.OrderRejected)

_MODULES = (order, inventory, payment, delivery)

#: Name on the wire -> message type, of every message of every service.
CATALOGUE: dict[str, type[Message]] = {kind.type_name: kind for module in _MODULES for kind in _messages(module)}

#: The names of the four services. The orchestrated mode has one worker more, its coordinator.
SERVICES: tuple[str, ...] = tuple(dict.fromkeys(kind.service for kind in CATALOGUE.values()))

#: The events by which a service reports that a command which must not fail has exhausted its retry budget.
ESCALATIONS: tuple[type[StepFailed], ...] = tuple(kind for kind in CATALOGUE.values() if issubclass(kind, StepFailed))
