"""How the workers are wired when one mind leads: services take commands only, the coordinator takes events only.

Room: orchestrator/. Derived from fulfilment.py; there is nothing to keep in step by hand.
"""

from collections.abc import Mapping

from broker.message import Command
from broker.role import Role, Service, as_it_is
from orchestrator.coordinator import coordinator
from orchestrator.fulfilment import FULFILMENT
from services.order.messages import PlaceOrder, WithdrawOrder

#: What the door may ask the order service.
DOOR: tuple[type[Command], ...] = (PlaceOrder, WithdrawOrder)


def commands() -> tuple[type[Command], ...]:
    """Every command that travels in this mode."""
    sent = [kind for step in FULFILMENT.steps for kind in (step.command, step.undo) if kind]
    return (*DOOR, *sent, FULFILMENT.rejects)


def roles(services: Mapping[str, Service]) -> tuple[Role, ...]:
    """One role for each service, and the coordinator's."""
    participants = tuple(
        Role(service, {kind: as_it_is for kind in commands() if kind.service == name}) for name, service in services.items()
    )
    return (*participants, Role(coordinator(FULFILMENT), dict.fromkeys(FULFILMENT.events(), as_it_is)))
