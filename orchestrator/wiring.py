"""What each worker accepts in the orchestrated mode: a service its commands, the coordinator the events.

Derived from fulfilment.py: a step that is added there is wired by itself.
"""

from collections.abc import Mapping

from broker.message import Command
from broker.role import Role, Service, identity
from orchestrator.coordinator import coordinator
from orchestrator.fulfilment import FULFILMENT
from orchestrator.saga import Saga
from services.message_types import API_COMMANDS, ESCALATIONS


def commands(saga: Saga = FULFILMENT) -> tuple[type[Command], ...]:
    """Every command that travels in this mode."""
    return (*API_COMMANDS, *saga.commands())


def roles(services: Mapping[str, Service]) -> tuple[Role, ...]:
    """One role for each service, and one for the coordinator."""
    participants = tuple(
        Role(service, {kind: identity for kind in commands() if kind.service == name}) for name, service in services.items()
    )
    coordinator_service = coordinator(FULFILMENT, ESCALATIONS)
    return (*participants, Role(coordinator_service, dict.fromkeys(coordinator_service.handlers, identity)))
