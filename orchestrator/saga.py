"""A saga as data, and `advance`, the pure function that moves one run of it: the table of docs/protocol.md#advance.

Nothing here sends or stores; the coordinator does. The one rule that is easy to miss: a run acts only on the event that it waits
for. Every other event is late (its step is already being undone, or it is a duplicate) and changes nothing.
"""

from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from typing import Any, ClassVar

from broker.message import Command, Event, Message
from services.vocabulary import Attention, BackwardCommand, BackwardEvent, OrderDetails, Reason, StepFailed
from store.document import Document


@dataclass(frozen=True, slots=True)
class Step:
    """One step: the command to send, the event that means success, the event that refuses it, and how it is undone.

    Before the pivot a step is compensatable (it has an `undo`); after it, retriable (it cannot be refused)."""

    command: type[Command]
    success: type[Event]
    refused: type[BackwardEvent] | None = None
    undo: type[BackwardCommand] | None = None
    undone: type[BackwardEvent] | None = None
    pivot: bool = False
    retriable: bool = False

    def __post_init__(self) -> None:
        if (self.undo is None) != (self.undone is None):
            raise ValueError(
                f"{self.command.__name__}: undo= and undone=, the event that answers it, come together: give both or none"
            )
        if self.retriable == (self.undo is not None):
            raise ValueError(f"{self.command.__name__}: a step is either compensatable (undo=) or retriable, not both or neither")
        if self.retriable and (self.refused or self.pivot):
            raise ValueError(f"{self.command.__name__}: a retriable step cannot be refused, nor be the pivot")


@dataclass(frozen=True, slots=True)
class Saga:
    """The whole sequence. The constructor checks: exactly one pivot, compensatable steps before it, retriable steps after it."""

    begins: type[Event]
    withdrawn: type[BackwardEvent]
    steps: tuple[Step, ...]
    rejects: type[BackwardCommand]
    rejected: type[BackwardEvent]

    def __post_init__(self) -> None:
        if [step.pivot for step in self.steps].count(True) != 1:
            raise ValueError("a saga has exactly one pivot")
        if any(earlier.retriable and not later.retriable for earlier, later in pairwise(self.steps)):
            raise ValueError("retriable steps come last")
        if any(not step.retriable for step in self.steps[self.pivot + 1 :]):
            raise ValueError("after the pivot every step is retriable")
        for step in self.steps:
            for command in filter(None, (step.command, step.undo)):
                if missing := command.missing_fields(SagaRun):
                    raise ValueError(f"{command.__name__} needs {missing}, which a saga run does not have")

    @property
    def pivot(self) -> int:
        """The index of the step after which the saga only goes forward."""
        return next(index for index, step in enumerate(self.steps) if step.pivot)

    @property
    def first_command(self) -> type[Command]:
        """The command that is sent when the saga begins."""
        return self.steps[0].command

    def next_command(self, step: Step) -> type[Command] | None:
        """The command that is sent after the success of `step`; None after the last step."""
        return next((later.command for earlier, later in pairwise(self.steps) if earlier == step), None)

    def previous_undo(self, step: Step) -> type[BackwardCommand]:
        """The command that is sent after `step` was refused or undone: the undo of the step before it, or the rejection."""
        return next((earlier.undo for earlier, later in pairwise(self.steps) if later == step and earlier.undo), self.rejects)

    def commands(self) -> tuple[type[Command], ...]:
        """Every command that the saga sends, in the order of the steps."""
        return (*(kind for step in self.steps for kind in (step.command, step.undo) if kind), self.rejects)

    def events(self) -> tuple[type[Event], ...]:
        """Every event that can move the saga, in the order of the steps."""
        answers = [kind for step in self.steps for kind in (step.success, step.refused, step.undone) if kind]
        return (self.begins, self.withdrawn, *answers, self.rejected)


class Phase(StrEnum):
    """What a run waits for."""

    AT = "AT"  # the reply to step `step`
    UNDO = "UNDO"  # the reply to the compensation of step `step`
    ENDING = "ENDING"  # the rejection: everything is undone
    DONE = "DONE"  # nothing: completed or rejected


class SagaRun(Document):
    """One run: the saga of one order. It never expires. `step` is an index into the saga's steps."""

    collection: ClassVar[str] = "sagas"

    order_id: str
    phase: Phase
    step: int
    details: OrderDetails | None = None
    reason: Reason | None = None
    #: Why this run needs an operator: NEEDS_ATTENTION until it moves again.
    attention: Attention | None = None


#: The run after an event, and the command to send, if any.
Transition = tuple[SagaRun, Message | None]


def advance(saga: Saga, run: SagaRun | None, event: Event) -> Transition | None:
    """The next state and command, or None when the event is late and changes nothing."""
    if run is None:
        return _begin(saga, event)
    if isinstance(event, StepFailed):
        return _mark(run, event)
    transition = _advance_run(saga, run, event)
    return (transition[0].copy_with(attention=None), transition[1]) if transition and run.attention else transition


def _advance_run(saga: Saga, run: SagaRun, event: Event) -> Transition | None:
    if run.phase is Phase.AT:
        return _on_step_event(saga, run, event)
    if run.phase is Phase.UNDO:
        return _on_undo_event(saga, run, event)
    if run.phase is Phase.ENDING and isinstance(event, saga.rejected):
        return run.copy_with(phase=Phase.DONE), None
    return None


def _begin(saga: Saga, event: Event) -> Transition | None:
    if isinstance(event, saga.begins):
        details: Any = getattr(event, "details", None)
        return _send_step(saga, SagaRun(order_id=event.order_id, phase=Phase.AT, step=0, details=details))
    if isinstance(event, saga.withdrawn):  # it overtook the beginning: there is nothing to undo, so only the rejection is left
        return _undo_previous(saga, SagaRun(order_id=event.order_id, phase=Phase.AT, step=0, reason=event.reason), 0)
    return None


def _mark(run: SagaRun, event: StepFailed) -> Transition | None:
    """Record why the run is stuck. It stays in its phase, and goes on when the failed command has been redriven."""
    if run.phase is Phase.DONE:
        return None
    return run.copy_with(attention=Attention(step=event.step, error=event.error)), None


def _on_step_event(saga: Saga, run: SagaRun, event: Event) -> Transition | None:
    step = saga.steps[run.step]
    if isinstance(event, step.success):
        return _send_step(saga, run.copy_with(step=run.step + 1))
    if step.refused and isinstance(event, step.refused):  # the step holds nothing: undo the ones before it
        return _undo_previous(saga, run.copy_with(reason=event.reason), run.step)
    if isinstance(event, saga.withdrawn) and run.step <= saga.pivot:  # the step is in doubt: undo it too
        return _undo_previous(saga, run.copy_with(reason=event.reason), run.step + 1)
    return None


def _on_undo_event(saga: Saga, run: SagaRun, event: Event) -> Transition | None:
    step = saga.steps[run.step]
    if step.undone and isinstance(event, step.undone):
        return _undo_previous(saga, run, run.step)
    if step.pivot and isinstance(event, step.success):  # the pivot was passed before it could be barred: go forward
        return _send_step(saga, run.copy_with(phase=Phase.AT, step=run.step + 1, reason=None))
    return None


def _send_step(saga: Saga, run: SagaRun) -> Transition:
    """Send the command of the step that the run is at; after the last step the run is done."""
    if run.step == len(saga.steps):
        return run.copy_with(phase=Phase.DONE), None
    return run, saga.steps[run.step].command.from_source(run)


def _undo_previous(saga: Saga, run: SagaRun, index: int) -> Transition:
    """Undo the step before `index`; if there is none, reject the order."""
    if index == 0:
        return run.copy_with(phase=Phase.ENDING, step=0), saga.rejects.from_source(run)
    undo = saga.steps[index - 1].undo
    assert undo is not None  # noqa: S101 - the saga's constructor checks that no retriable step stands before the pivot
    return run.copy_with(phase=Phase.UNDO, step=index - 1), undo.from_source(run)
