"""How the workers are wired when one mind leads: services take commands only, the coordinator takes events only.

Derived from fulfilment.py; there is nothing to keep in step by hand.
"""

from collections.abc import Mapping

from broker.message import Command
from broker.role import Role, Service, as_it_is
from orchestrator.coordinator import coordinator
from orchestrator.fulfilment import FULFILMENT
from services.message_types import CALLS_FOR_HELP, DOOR


def commands() -> tuple[type[Command], ...]:
    """Every command that travels in this mode."""
    sent = [kind for step in FULFILMENT.steps for kind in (step.command, step.undo) if kind]
    return (*DOOR, *sent, FULFILMENT.rejects)


def roles(services: Mapping[str, Service]) -> tuple[Role, ...]:
    """One role for each service, and the coordinator's."""
    participants = tuple(
        Role(service, {kind: as_it_is for kind in commands() if kind.service == name}) for name, service in services.items()
    )
    leader = coordinator(FULFILMENT, CALLS_FOR_HELP)
    return (*participants, Role(leader, dict.fromkeys(leader.handlers, as_it_is)))
