"""The message flow of a mode: which worker acts on which message, with which command, and what may be published because of it.

Derived from orchestrator/fulfilment.py and choreography/reactions.py, the two tables that define the sequence. Nothing here
depends on messages that were observed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import choreography
import orchestrator
from broker.message import Event, Message
from choreography.reaction import Reaction
from choreography.reactions import REACTIONS
from orchestrator import wiring
from orchestrator.coordinator import NAME as COORDINATOR
from orchestrator.fulfilment import FULFILMENT
from orchestrator.saga import Saga
from services.message_types import API_COMMANDS, ESCALATIONS
from services.order.messages import ANSWERS, MarkForAttention


@dataclass(frozen=True, slots=True)
class MessageFlow:
    """One mode. Messages are named as on the wire.

    `takers`: message -> the workers that act on it; a message that is absent triggers nothing. `handled_commands`: (worker,
    message) -> the command that the worker handles because of it. `possible_effects`: message -> what may be published because
    of it. `pivot_first`: a withdrawal is undone from the pivot on, not from the step that is under way."""

    mode: str
    takers: Mapping[str, tuple[str, ...]]
    handled_commands: Mapping[tuple[str, str], str]
    possible_effects: Mapping[str, tuple[str, ...]]
    pivot_first: bool

    @property
    def has_coordinator(self) -> bool:
        """Whether one worker of the mode knows the sequence, and so what remains of it."""
        return any(COORDINATOR in workers for workers in self.takers.values())

    def possible_causes(self, type_name: str) -> tuple[str, ...]:
        """The messages that may have caused one of this type."""
        return tuple(cause for cause, effects in self.possible_effects.items() if type_name in effects)


def orchestrator_flow(saga: Saga) -> MessageFlow:
    """The flow of the orchestrated mode, from the table of its saga."""
    commands = wiring.commands(saga)
    received: tuple[type[Event], ...] = (*saga.events(), *ESCALATIONS)
    return MessageFlow(
        mode=orchestrator.__name__,
        takers={kind.type_name: (kind.service,) for kind in commands} | {kind.type_name: (COORDINATOR,) for kind in received},
        handled_commands={(kind.service, kind.type_name): kind.__name__ for kind in commands},
        possible_effects=_answers(saga) | _next_commands(saga),
        pivot_first=False,
    )


def choreography_flow(reactions: Sequence[Reaction], saga: Saga) -> MessageFlow:
    """The flow of the choreographed mode, from the table of its reactions.

    The answers to a command are read off `saga`, because services answer alike in both modes. A command that the saga does not
    have has no known answer, so no answer to it counts as missing."""
    answers = _answers(saga)
    takers: dict[str, tuple[str, ...]] = {kind.type_name: (kind.service,) for kind in API_COMMANDS}
    handled_commands = {(kind.service, kind.type_name): kind.__name__ for kind in API_COMMANDS}
    possible_effects = {kind.type_name: answers.get(kind.type_name, ()) for kind in API_COMMANDS}
    for reaction in reactions:
        name = reaction.when.type_name
        takers[name] = (*takers.get(name, ()), reaction.by)
        handled_commands[reaction.by, name] = reaction.does.__name__
        possible_effects[name] = (*possible_effects.get(name, ()), *answers.get(reaction.does.type_name, ()))
    for kind in ESCALATIONS:
        takers[kind.type_name] = (MarkForAttention.service,)
        handled_commands[MarkForAttention.service, kind.type_name] = MarkForAttention.__name__
    pivot_undos = [step.undo for step in saga.steps if step.pivot]
    pivot_first = any(reaction.when is saga.withdrawn and reaction.does in pivot_undos for reaction in reactions)
    return MessageFlow(choreography.__name__, takers, handled_commands, possible_effects, pivot_first)


def _answers(saga: Saga) -> dict[str, tuple[str, ...]]:
    """Command -> the events that may answer it, in both modes."""
    answers = {saga.rejects.type_name: _names(saga.rejected)}
    for step in saga.steps:
        answers[step.command.type_name] = _names(step.success, step.refused)
        if step.undo:  # the pivot's undo may also be answered by the step's success: the pivot was passed before
            answers[step.undo.type_name] = _names(step.undone, step.success if step.pivot else None)
    return answers | {command.type_name: _names(*events) for command, events in ANSWERS.items()}


def _next_commands(saga: Saga) -> dict[str, tuple[str, ...]]:
    """Event -> the commands that the coordinator may send after it. `saga.advance` decides which."""
    commands_after = {
        saga.begins.type_name: _names(saga.first_command),
        saga.withdrawn.type_name: _names(saga.rejects, *(step.undo for step in saga.steps)),
    }
    for step in saga.steps:
        commands_after[step.success.type_name] = _names(saga.next_command(step))
        commands_after |= dict.fromkeys(_names(step.refused, step.undone), _names(saga.previous_undo(step)))
    return commands_after


def _names(*kinds: type[Message] | None) -> tuple[str, ...]:
    return tuple(kind.type_name for kind in kinds if kind)


#: Both modes, by name.
MESSAGE_FLOWS: Mapping[str, MessageFlow] = {
    flow.mode: flow for flow in (orchestrator_flow(FULFILMENT), choreography_flow(REACTIONS, FULFILMENT))
}
