"""How the workers are wired when each reacts to the others: services hear events, and only the door sends commands.

Room: choreography/. Derived from reactions.py; there is nothing to keep in step by hand.
"""

from collections.abc import Callable, Mapping
from typing import Any

from broker.message import Command, Message
from broker.role import Role, Service, as_it_is
from choreography.reactions import REACTIONS
from services.order.messages import PlaceOrder, WithdrawOrder

#: What the door may ask the order service: the only commands on the wire.
DOOR: tuple[type[Command], ...] = (PlaceOrder, WithdrawOrder)


def roles(services: Mapping[str, Service]) -> tuple[Role, ...]:
    """One role for each service, and no other."""
    return tuple(Role(service, _accepted_by(name)) for name, service in services.items())


def _accepted_by(name: str) -> Mapping[type[Message], Callable[[Any], Message]]:
    asked: dict[type[Message], Callable[[Any], Message]] = {kind: as_it_is for kind in DOOR if kind.service == name}
    return asked | {reaction.when: reaction.does.drawn_from for reaction in REACTIONS if reaction.by == name}
