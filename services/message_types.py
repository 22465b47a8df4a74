"""Every message type by its name on the wire.

Read off the services' messages.py; there is nothing to keep in step by hand.
"""

from collections.abc import Iterable

from broker.message import Command, Message
from services.delivery import messages as delivery
from services.inventory import messages as inventory
from services.order import messages as order
from services.payment import messages as payment
from services.vocabulary import StepFailed


def _messages(module: object) -> Iterable[type[Message]]:
    kinds = (value for value in vars(module).values() if isinstance(value, type) and issubclass(value, Message))
    return (kind for kind in kinds if kind.__module__ == getattr(module, "__name__", ""))


#: The commands that the HTTP API sends to the order service: all that comes from outside.
API_COMMANDS: tuple[type[Command], ...] = (order.PlaceOrder, order.WithdrawOrder)

_MODULES = (order, inventory, payment, delivery)

CATALOGUE: dict[str, type[Message]] = {kind.type_name: kind for module in _MODULES for kind in _messages(module)}

#: The names of the four services. The orchestrated mode has one worker more, its coordinator.
SERVICES: tuple[str, ...] = tuple(dict.fromkeys(kind.service for kind in CATALOGUE.values()))

#: The events by which a service says that a command which must not fail has failed for good.
ESCALATIONS: tuple[type[StepFailed], ...] = tuple(kind for kind in CATALOGUE.values() if issubclass(kind, StepFailed))
