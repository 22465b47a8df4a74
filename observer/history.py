"""An order's history, built from its messages alone: what happened, because of what, how long it took, and what is not known.

Pure functions: the same observations give the same history, in whatever order and however often they arrive. Times are those of
the senders (milliseconds), so clocks that differ show as odd durations, never as an effect before its cause.
"""

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from observer.entry import Entry
from observer.message_flow import MessageFlow
from observer.observation import Observation, merge
from observer.root_cause import root_cause
from observer.timeline import timeline
from orchestrator.fulfilment import FULFILMENT
from orchestrator.remaining_steps import remaining_steps
from orchestrator.saga import Step
from services.message_types import CATALOGUE, FINAL_EVENTS
from services.order.messages import DeadlinePassed, OrderCompleted, OrderRejected, OrderWithdrawn, PlaceOrder, WithdrawOrder
from services.vocabulary import BackwardEvent, ObservedState, StepFailed


@dataclass(frozen=True, slots=True)
class Undone:
    """A compensation that was answered.

    `had_effect`: True if the step that it undoes was observed to have succeeded; None if that step was requested and not
    answered, so that it is in doubt; False if it was refused or not requested."""

    command: str
    entry: int
    had_effect: bool | None


@dataclass(frozen=True, slots=True)
class Waiting:
    """A worker that was sent a message and has not been observed to react. `since` is when the message was sent."""

    worker: str
    deed: str
    entry: int
    since: float


@dataclass(frozen=True, slots=True)
class LossPeriod:
    """A period in which the observer lost messages, in seconds since the epoch. It is not known of which orders."""

    since: float
    until: float


@dataclass(frozen=True, slots=True)
class History:
    """The history of one order.

    `root` is the number of the entry that everything else followed from, `why` says it in a sentence. `remains` are the commands
    still to be handled if nothing else goes wrong; `remains_note` says how sure that is. `gaps` are sentences about messages that
    are or may be missing. `moved_at` is the time of the newest message that was not a mere repetition."""

    order_id: str
    mode: str
    state: ObservedState
    reason: str | None
    wanted: str | None
    injected: str | None
    began_at: float
    moved_at: float
    took_s: float | None
    why: str
    root: int | None
    entries: tuple[Entry, ...]
    undone: tuple[Undone, ...]
    waiting: tuple[Waiting, ...]
    remains: tuple[str, ...]
    remains_note: str | None
    gaps: tuple[str, ...]

    @property
    def ended(self) -> bool:
        return self.state.ended

    def stuck(self, now: float, stuck_after_s: float) -> bool:
        """Whether the order needs an operator, or has not moved for `stuck_after_s`."""
        return not self.ended and (self.state is ObservedState.NEEDS_ATTENTION or now - self.moved_at > stuck_after_s)

    def as_dict(self) -> dict[str, Any]:
        """As JSON-like values."""
        return asdict(self)


#: The commands that OrderWithdrawn answers. It says nothing about any other step, however often it is published.
_WITHDRAWAL_COMMANDS = (WithdrawOrder.__name__, DeadlinePassed.__name__)
#: The events that end an order, by name on the wire.
FINAL_EVENT_NAMES = tuple(kind.type_name for kind in FINAL_EVENTS)


def build_history(
    flow: MessageFlow, observations: Sequence[Observation], losses: Collection[LossPeriod] = (), *, cut: bool = False
) -> History:
    """The history of one order. `observations`: at least one, all of the same order.

    `losses`: the periods in which the observer lost messages. `cut`: there were more messages than it keeps of one order."""
    by_id: dict[str, Observation] = {}
    for observation in observations:
        known = by_id.get(observation.message_id)
        by_id[observation.message_id] = merge(known, observation) if known else observation
    entries = timeline(flow, by_id)
    repeated = _repeated(entries)
    state, reason = _state(entries)
    waiting = () if state.ended else tuple(_waiting(flow, entries, repeated))
    gaps = tuple(_gaps(flow, entries, losses, ended=state.ended, cut=cut))
    injected = min(filter(None, (observation.injected for observation in by_id.values())), default=None)
    why, root = root_cause(flow, entries, state, reason, injected)
    remaining, note = _remains(flow, entries, state, gaps)
    began_at, moved_at = entries[0].at, max(entry.at for entry in entries if entry.number not in repeated)
    return History(
        order_id=observations[0].order_id,
        mode=flow.mode,
        state=state,
        reason=reason,
        wanted=min(filter(None, (observation.wanted for observation in by_id.values())), default=None),
        injected=injected,
        began_at=began_at,
        moved_at=moved_at,
        took_s=round(_final_entry(entries).at - began_at, 3) if state.ended else None,
        why=why,
        root=root,
        entries=entries,
        undone=tuple(_undone(flow, entries)),
        waiting=waiting,
        remains=remaining,
        remains_note=note,
        gaps=gaps,
    )


# --- state ----------------------------------------------------------------------------------------------------------------


def _final_entry(entries: Sequence[Entry]) -> Entry:
    return next(entry for entry in entries if entry.type in FINAL_EVENT_NAMES)


def _state(entries: Sequence[Entry]) -> tuple[ObservedState, str | None]:
    """State and reason. An escalation is open until its service publishes an event that shows the step as done after all."""
    state, escalations = ObservedState.ACCEPTED, dict[str, Entry]()
    for entry in entries:
        if entry.type == OrderCompleted.type_name:
            return ObservedState.COMPLETED, None
        if entry.type == OrderRejected.type_name:
            return ObservedState.REJECTED, entry.facts.get("reason")
        if entry.command:
            continue
        state = ObservedState.PENDING
        escalation = escalations.pop(entry.sender, None)
        if issubclass(CATALOGUE[entry.type], StepFailed):
            escalations[entry.sender] = entry
        elif escalation and entry.type == OrderWithdrawn.type_name and escalation.facts.get("step") not in _WITHDRAWAL_COMMANDS:
            escalations[entry.sender] = escalation
    if escalations:
        facts = [*escalations.values()][-1].facts
        return ObservedState.NEEDS_ATTENTION, f"{facts.get('step')}: {facts.get('error')}"
    return state, None


def _repeated(entries: Sequence[Entry]) -> set[int]:
    """The numbers of entries that are no progress.

    An overdue order publishes OrderWithdrawn again and again, also when its rollback has begun, and each time other services
    repeat their answers."""
    types_seen: set[str] = set()
    rolling_back = False
    found: set[int] = set()
    for entry in entries:
        repeated_withdrawal = entry.type == OrderWithdrawn.type_name and rolling_back
        if repeated_withdrawal or (entry.cause in found and entry.type in types_seen):
            found.add(entry.number)
        types_seen.add(entry.type)
        rolling_back = rolling_back or issubclass(CATALOGUE[entry.type], BackwardEvent)
    return found


def _waiting(flow: MessageFlow, entries: Sequence[Entry], repeated: set[int]) -> list[Waiting]:
    """The workers that have not reacted.

    With a coordinator only the newest, because it drops late events; else each worker and command once, from the first message
    that asked for it."""
    answered_entries = {entry.cause for entry in entries} | (repeated if flow.has_coordinator else set())
    done = {(entry.sender, entry.deed): entry.number for entry in entries if entry.deed}
    waiting_entries = [
        Waiting(worker, deed, entry.number, entry.at)
        for entry in entries
        if entry.number not in answered_entries and flow.possible_effects.get(entry.type)
        for worker in entry.takers
        if done.get((worker, deed := flow.handled_commands.get((worker, entry.type), "next command")), 0) < entry.number
    ]
    if flow.has_coordinator:
        return waiting_entries[-1:]
    return [*{(one.worker, one.deed): one for one in reversed(waiting_entries)}.values()][::-1]


def _undone(flow: MessageFlow, entries: Sequence[Entry]) -> list[Undone]:
    """The compensations that were answered, each once, in the order of their answers."""
    found: list[Undone] = []
    for step in FULFILMENT.steps:
        if step.undo and step.undone:
            answers = [entry.number for entry in entries if entry.type == step.undone.type_name]
            if answers:
                # The first answer counts also if it precedes the step's own: the tombstone then refuses the step.
                found.append(Undone(step.undo.__name__, answers[0], _had_effect(flow, entries, step)))
    return sorted(found, key=lambda undone: undone.entry)


def _had_effect(flow: MessageFlow, entries: Sequence[Entry], step: Step) -> bool | None:
    types_seen = {entry.type for entry in entries}
    if step.success.type_name in types_seen:
        return True
    requested = any(flow.handled_commands.get((step.command.service, kind)) == step.command.__name__ for kind in types_seen)
    refused = step.refused is not None and step.refused.type_name in types_seen
    return None if requested and not refused else False


def _remains(
    flow: MessageFlow, entries: Sequence[Entry], state: ObservedState, gaps: Collection[str]
) -> tuple[tuple[str, ...], str | None]:
    """The commands still to be handled, and how sure that is."""
    if state.ended:
        return (), None
    types_seen = {entry.type for entry in entries if not entry.command}
    withdrawn = OrderWithdrawn.type_name in types_seen
    if gaps:
        note = "messages are missing: some of this may have been done"
    elif flow.has_coordinator:
        note = None
    elif withdrawn:
        note = "inferred: in choreography no service knows how far the order got, so every undo is listed"
    else:
        note = "inferred: in choreography no service knows the sequence"
    remaining = remaining_steps(types_seen, withdrawn=withdrawn, pivot_first=flow.pivot_first)
    return (*(() if types_seen else (PlaceOrder.__name__,)), *remaining), note


# --- gaps -----------------------------------------------------------------------------------------------------------------


def _gaps(flow: MessageFlow, entries: Sequence[Entry], losses: Collection[LossPeriod], *, ended: bool, cut: bool) -> list[str]:
    """Which messages must be missing, and whether others may be."""
    missing: dict[str, list[Entry]] = {}
    for entry in entries:
        if entry.missing_cause:
            missing.setdefault(entry.missing_cause, []).append(entry)
    gaps = [_missing_message(flow, effects) for effects in missing.values()]
    until = entries[-1].at if ended else float("inf")
    if any(loss.since < until and loss.until >= entries[0].at for loss in losses):
        gaps.append("the observer lost messages while this order was under way: some may be missing without a trace")
    if cut:
        gaps.append(f"more than {len(entries)} messages: later ones were not kept")
    return gaps


def _missing_message(flow: MessageFlow, effects: Sequence[Entry]) -> str:
    possible: set[str] = set.intersection(*({*flow.possible_causes(entry.type)} for entry in effects))
    names = " or ".join(sorted(CATALOGUE[name].__name__ for name in possible)) or "a message"
    effect_names = ", ".join(f"{entry.name} (#{entry.number})" for entry in effects)
    return f"{names} was not observed, which caused {effect_names}"
