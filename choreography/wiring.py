"""What each worker accepts in choreography: events of other services, and the commands that the HTTP API sends.

Derived from reactions.py: a reaction that is added there is wired by itself.
"""

from collections.abc import Callable, Mapping
from typing import Any

from broker.message import Message
from broker.role import Role, Service, identity
from choreography.reactions import REACTIONS
from services.message_types import API_COMMANDS, ESCALATIONS
from services.order.messages import MarkForAttention


def roles(services: Mapping[str, Service]) -> tuple[Role, ...]:
    """One role for each service; choreography has no other worker in its flow."""
    return tuple(Role(service, _accepted_by(name)) for name, service in services.items())


def _accepted_by(name: str) -> Mapping[type[Message], Callable[[Any], Message]]:
    accepted: dict[type[Message], Callable[[Any], Message]] = {kind: identity for kind in API_COMMANDS if kind.service == name}
    if name == MarkForAttention.service:
        accepted |= dict.fromkeys(ESCALATIONS, MarkForAttention.from_source)
    return accepted | {reaction.when: reaction.does.from_source for reaction in REACTIONS if reaction.by == name}
