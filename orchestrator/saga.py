"""A saga as data, and `advance`: the pure function that moves one run of it. The table of docs/protocol.md#advance in full.

Nothing here sends or stores; the coordinator does. The one rule that is easy to miss: a run acts only on the
event it waits for. Every other event is late (its compensation is already on its way, or its twin was here) and changes nothing.
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
    """One step: the command to send, the event that means success, and how a refusal and an undo look.

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
            raise ValueError(f"{self.command.__name__}: an undo and the event that answers it come together")
        if self.retriable == (self.undo is not None):
            raise ValueError(f"{self.command.__name__}: a step is either compensatable (undo=) or retriable, not both or neither")
        if self.retriable and (self.refused or self.pivot):
            raise ValueError(f"{self.command.__name__}: a retriable step cannot be refused, nor be the pivot")


@dataclass(frozen=True, slots=True)
class Saga:
    """The whole sequence. Checked when it is built: exactly one pivot, compensatable before it, retriable after it."""

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
                    raise ValueError(f"{command.__name__} needs {missing}, which a saga does not know")

    @property
    def pivot(self) -> int:
        """The index of the step after which the saga only goes forward."""
        return next(index for index, step in enumerate(self.steps) if step.pivot)

    def events(self) -> tuple[type[Event], ...]:
        """Everything that moves the saga, in the order of the steps."""
        answers = [kind for step in self.steps for kind in (step.success, step.refused, step.undone) if kind]
        return (self.begins, self.withdrawn, *answers, self.rejected)


class Phase(StrEnum):
    """Where a run stands."""

    AT = "AT"  # waiting for the answer of step `step`
    UNDO = "UNDO"  # waiting for the undo of step `step`
    ENDING = "ENDING"  # everything is undone; waiting for the rejection
    DONE = "DONE"  # the end, either way


class SagaRun(Document):
    """One run: the saga of one order, kept as long as the order. `step` is an index into the saga's steps."""

    collection: ClassVar[str] = "sagas"

    order_id: str
    phase: Phase
    step: int
    details: OrderDetails | None = None
    reason: Reason | None = None
    #: Why somebody has to look at this run: NEEDS_ATTENTION until it moves again.
    attention: Attention | None = None


#: The run as it is now, and the command to send, if any.
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
    if isinstance(event, saga.withdrawn):  # it overtook the beginning: nothing was asked yet, so only the end is left
        return _undo_previous(saga, SagaRun(order_id=event.order_id, phase=Phase.AT, step=0, reason=event.reason), 0)
    return None


def _mark(run: SagaRun, event: StepFailed) -> Transition | None:
    """It stays where it is: what failed is taken up again when somebody has seen to it."""
    if run.phase is Phase.DONE:
        return None
    return run.copy_with(attention=Attention(step=event.step, error=event.error)), None


def _on_step_event(saga: Saga, run: SagaRun, event: Event) -> Transition | None:
    step = saga.steps[run.step]
    if isinstance(event, step.success):
        return _send_step(saga, run.copy_with(step=run.step + 1))
    if step.refused and isinstance(event, step.refused):  # it holds nothing itself: undo the ones before it
        return _undo_previous(saga, run.copy_with(reason=event.reason), run.step)
    if isinstance(event, saga.withdrawn) and run.step <= saga.pivot:  # in doubt: undo this one too
        return _undo_previous(saga, run.copy_with(reason=event.reason), run.step + 1)
    return None


def _on_undo_event(saga: Saga, run: SagaRun, event: Event) -> Transition | None:
    step = saga.steps[run.step]
    if step.undone and isinstance(event, step.undone):
        return _undo_previous(saga, run, run.step)
    if step.pivot and isinstance(event, step.success):  # the pivot was passed before it could be barred: forward
        return _send_step(saga, run.copy_with(phase=Phase.AT, step=run.step + 1, reason=None))
    return None


def _send_step(saga: Saga, run: SagaRun) -> Transition:
    """Send the command of the step that the run is at; after the last step it is done."""
    if run.step == len(saga.steps):
        return run.copy_with(phase=Phase.DONE), None
    return run, saga.steps[run.step].command.from_source(run)


def _undo_previous(saga: Saga, run: SagaRun, index: int) -> Transition:
    """Undo the step before `index`; when there is none left, reject the order."""
    if index == 0:
        return run.copy_with(phase=Phase.ENDING, step=0), saga.rejects.from_source(run)
    undo = saga.steps[index - 1].undo
    assert undo is not None  # noqa: S101 - the saga's constructor saw to it: no retriable step stands before the pivot
    return run.copy_with(phase=Phase.UNDO, step=index - 1), undo.from_source(run)
