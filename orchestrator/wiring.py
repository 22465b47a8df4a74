"""How the workers are wired when one mind leads: services take commands only, the coordinator takes events only.

Derived from fulfilment.py; there is nothing to keep in step by hand.
"""

from collections.abc import Mapping

from broker.message import Command
from broker.role import Role, Service, identity
from orchestrator.coordinator import coordinator
from orchestrator.fulfilment import FULFILMENT
from services.message_types import API_COMMANDS, ESCALATIONS


def commands() -> tuple[type[Command], ...]:
    """Every command that travels in this mode."""
    step_commands = [kind for step in FULFILMENT.steps for kind in (step.command, step.undo) if kind]
    return (*API_COMMANDS, *step_commands, FULFILMENT.rejects)


def roles(services: Mapping[str, Service]) -> tuple[Role, ...]:
    """One role for each service, and the coordinator's."""
    participants = tuple(
        Role(service, {kind: identity for kind in commands() if kind.service == name}) for name, service in services.items()
    )
    coordinator_service = coordinator(FULFILMENT, ESCALATIONS)
    return (*participants, Role(coordinator_service, dict.fromkeys(coordinator_service.handlers, identity)))
