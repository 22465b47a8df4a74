"""How the workers are wired when each reacts to the others: services hear events, and only the door sends commands.

Derived from reactions.py; there is nothing to keep in step by hand.
"""

from collections.abc import Callable, Mapping
from typing import Any

from broker.message import Message
from broker.role import Role, Service, identity
from choreography.reactions import REACTIONS
from services.message_types import API_COMMANDS, ESCALATIONS
from services.order.messages import MarkForAttention


def roles(services: Mapping[str, Service]) -> tuple[Role, ...]:
    """One role for each service, and no other."""
    return tuple(Role(service, _accepted_by(name)) for name, service in services.items())


def _accepted_by(name: str) -> Mapping[type[Message], Callable[[Any], Message]]:
    accepted: dict[type[Message], Callable[[Any], Message]] = {kind: identity for kind in API_COMMANDS if kind.service == name}
    if name == MarkForAttention.service:
        accepted |= dict.fromkeys(ESCALATIONS, MarkForAttention.from_source)
    return accepted | {reaction.when: reaction.does.from_source for reaction in REACTIONS if reaction.by == name}
