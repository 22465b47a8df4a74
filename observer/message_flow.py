"""A mode as it is written down: who acts on which message, what they then do, and what may follow. Data; nothing is heard.

Derived from orchestrator/fulfilment.py and choreography/reactions.py, the two places where the sequence is.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import choreography
import orchestrator.wiring
from broker.message import Command, Event, Message
from choreography.reactions import REACTIONS
from orchestrator.coordinator import NAME as COORDINATOR
from orchestrator.fulfilment import FULFILMENT
from orchestrator.saga import Saga
from services.message_types import API_COMMANDS, ESCALATIONS
from services.order.messages import (
    MarkForAttention,
    OrderPlaced,
    OrderRejected,
    OrderWithdrawn,
    PlaceOrder,
    WithdrawalRefused,
    WithdrawOrder,
)


@dataclass(frozen=True, slots=True)
class MessageFlow:
    """One mode. Messages go by their names on the wire.

    `takers`: message -> the workers that act on it (a message that is not named is a fact that nobody needs). `handled_commands`: (worker,
    message) -> the command that the worker handles because of it. `follows`: message -> what may be published because of it.
    `pivot_first`: a withdrawal is undone from the pivot on, not from the step that is under way."""

    mode: str
    takers: Mapping[str, tuple[str, ...]]
    handled_commands: Mapping[tuple[str, str], str]
    possible_effects: Mapping[str, tuple[str, ...]]
    pivot_first: bool

    @property
    def has_coordinator(self) -> bool:
        """Whether one party of the mode knows the sequence, and so what remains of it."""
        return not self.pivot_first

    def possible_causes(self, type_name: str) -> tuple[str, ...]:
        """What may have caused such a message."""
        return tuple(cause for cause, effects in self.possible_effects.items() if type_name in effects)


def _names(kinds: Iterable[type[Message] | None]) -> tuple[str, ...]:
    return tuple(kind.type_name for kind in kinds if kind)


def _answers(saga: Saga) -> dict[str, tuple[str, ...]]:
    """Command -> the events that answer it, the same in both modes."""
    answers = {
        PlaceOrder.type_name: _names((OrderPlaced, OrderRejected, OrderWithdrawn)),  # the last by the order's own deadline
        WithdrawOrder.type_name: _names((OrderWithdrawn, WithdrawalRefused)),
        saga.rejects.type_name: _names((saga.rejected,)),
    }
    for step in saga.steps:
        refusal = WithdrawalRefused if step.retriable else step.refused
        answers[step.command.type_name] = _names((step.success, refusal))
        if step.undo:
            answers[step.undo.type_name] = _names((step.undone, step.success if step.pivot else None))
    return answers


def _next_commands(saga: Saga) -> dict[str, tuple[str, ...]]:
    """Event -> the commands that the coordinator may send after it. `saga.advance` decides which."""
    backward_commands: list[type[Command] | None] = [saga.rejects, *(step.undo for step in saga.steps)]
    commands_after = {saga.begins.type_name: _names((saga.steps[0].command,))}
    commands_after[saga.withdrawn.type_name] = _names(backward_commands)
    for number, step in enumerate(saga.steps):
        next_command = saga.steps[number + 1].command if number + 1 < len(saga.steps) else None
        commands_after[step.success.type_name] = _names((next_command,))
        for kind in (step.refused, step.undone):
            if kind:
                commands_after[kind.type_name] = _names((backward_commands[number],))
    return commands_after


def _orchestrator_flow() -> MessageFlow:
    commands = orchestrator.wiring.commands()
    received: tuple[type[Event], ...] = (*FULFILMENT.events(), *ESCALATIONS)
    return MessageFlow(
        mode=orchestrator.__name__,
        takers={kind.type_name: (kind.service,) for kind in commands} | {kind.type_name: (COORDINATOR,) for kind in received},
        handled_commands={(kind.service, kind.type_name): kind.__name__ for kind in commands},
        possible_effects=_answers(FULFILMENT) | _next_commands(FULFILMENT),
        pivot_first=False,
    )


def _choreography_flow() -> MessageFlow:
    answers = _answers(FULFILMENT)
    takers: dict[str, tuple[str, ...]] = {kind.type_name: (kind.service,) for kind in API_COMMANDS}
    handled_commands = {(kind.service, kind.type_name): kind.__name__ for kind in API_COMMANDS}
    possible_effects = {kind.type_name: answers[kind.type_name] for kind in API_COMMANDS}
    for reaction in REACTIONS:
        name = reaction.when.type_name
        # What answers a command is read off the saga; a command that only this mode has is not waited for.
        takers[name] = (*takers.get(name, ()), reaction.by)
        handled_commands[reaction.by, name] = reaction.does.__name__
        possible_effects[name] = (*possible_effects.get(name, ()), *answers.get(reaction.does.type_name, ()))
    for kind in ESCALATIONS:
        takers[kind.type_name] = (MarkForAttention.service,)
        handled_commands[MarkForAttention.service, kind.type_name] = MarkForAttention.__name__
    return MessageFlow(choreography.__name__, takers, handled_commands, possible_effects, pivot_first=True)


#: Both modes, by name.
MESSAGE_FLOWS: Mapping[str, MessageFlow] = {flow.mode: flow for flow in (_orchestrator_flow(), _choreography_flow())}
