"""How the workers are wired when each reacts to the others: services hear events, and only the door sends commands.

Derived from reactions.py; there is nothing to keep in step by hand.
"""

from collections.abc import Callable, Mapping
from typing import Any

from broker.message import Command, Message
from broker.role import Role, Service, as_it_is
from choreography.reactions import REACTIONS
from services.delivery.messages import DeliveryStuck
from services.inventory.messages import InventoryStuck
from services.order.messages import MarkForAttention, OrderStuck, PlaceOrder, WithdrawOrder
from services.payment.messages import PaymentStuck
from services.vocabulary import StuckEvent

#: What the door may ask the order service: the only commands on the wire.
DOOR: tuple[type[Command], ...] = (PlaceOrder, WithdrawOrder)


#: What a service says when something that must not fail has failed for good: the order is marked, and stays what it is.
CALLS_FOR_HELP: tuple[type[StuckEvent], ...] = (OrderStuck, InventoryStuck, PaymentStuck, DeliveryStuck)


def roles(services: Mapping[str, Service]) -> tuple[Role, ...]:
    """One role for each service, and no other."""
    return tuple(Role(service, _accepted_by(name)) for name, service in services.items())


def _accepted_by(name: str) -> Mapping[type[Message], Callable[[Any], Message]]:
    asked: dict[type[Message], Callable[[Any], Message]] = {kind: as_it_is for kind in DOOR if kind.service == name}
    if name == MarkForAttention.service:
        asked |= dict.fromkeys(CALLS_FOR_HELP, MarkForAttention.drawn_from)
    return asked | {reaction.when: reaction.does.drawn_from for reaction in REACTIONS if reaction.by == name}
