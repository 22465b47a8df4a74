"""An order's history, built from the messages alone: what happened, because of what, how long it took, and what nobody can know.

Pure: the same sightings give the same history, in whatever order and however often they were heard. Times are
the senders' own (milliseconds), so clocks that differ show as odd durations, never as another order of cause and effect.
"""

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from observer import root_cause as reasons
from observer.entry import Entry
from observer.message_flow import MessageFlow
from observer.observation import Observation, merge
from observer.timeline import timeline
from orchestrator.fulfilment import FULFILMENT
from orchestrator.remaining_steps import remaining_steps
from orchestrator.saga import Step
from services.message_types import CATALOGUE
from services.order.messages import DeadlinePassed, OrderCompleted, OrderRejected, OrderWithdrawn, PlaceOrder, WithdrawOrder
from services.vocabulary import NEEDS_ATTENTION, BackwardEvent, StepFailed


@dataclass(frozen=True, slots=True)
class Undone:
    """A compensation that was answered. `had_effect`: the step that it undoes was heard to have succeeded; None: it was asked for
    and never answered, so it may have been under way; False: it was refused, or nobody had asked for it."""

    command: str
    entry: int
    had_effect: bool | None


@dataclass(frozen=True, slots=True)
class Waiting:
    """A worker that has been told and has not been heard to react. `since` is when it was told."""

    worker: str
    deed: str
    entry: int
    since: float


@dataclass(frozen=True, slots=True)
class LossPeriod:
    """A time in which the observer lost messages, in seconds since the epoch. Of which orders, nobody knows."""

    since: float
    until: float


@dataclass(frozen=True, slots=True)
class History:
    """One order. `state`: ACCEPTED (asked for, nothing said yet), PENDING, NEEDS_ATTENTION, COMPLETED or REJECTED.

    `root` is the number of the entry that everything else followed from, `why` says it in a sentence. `remains` are the commands
    still to come if nothing else goes wrong; `remains_note` says how sure that is. `gaps` are sentences.
    `moved_at` is when something was last said that had not been said before."""

    order_id: str
    mode: str
    state: str
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
        return self.state in FINAL_STATES

    def stuck(self, now: float, stuck_after_s: float) -> bool:
        """Whether nothing will move it without help, or nothing has moved it for `stuck_after_s`."""
        return not self.ended and (self.state == NEEDS_ATTENTION or now - self.moved_at > stuck_after_s)

    def as_dict(self) -> dict[str, Any]:
        """As JSON-like values."""
        return asdict(self)


FINAL_STATES = ("COMPLETED", "REJECTED")
#: The commands that OrderWithdrawn answers: of every other step it says nothing, however often the order says it.
_WITHDRAWAL_COMMANDS = (WithdrawOrder.__name__, DeadlinePassed.__name__)
#: The events that end an order, by name on the wire.
FINAL_EVENTS = (OrderCompleted.type_name, OrderRejected.type_name)


def build_history(
    flow: MessageFlow, observations: Sequence[Observation], losses: Collection[LossPeriod] = (), *, cut: bool = False
) -> History:
    """The history of the one order that all of `sightings` (at least one) are about.

    `losses`: times in which the observer lost messages. `cut`: there were more messages than it keeps of one order."""
    by_id: dict[str, Observation] = {}
    for observation in observations:
        known = by_id.get(observation.message_id)
        by_id[observation.message_id] = merge(known, observation) if known else observation
    entries = timeline(flow, by_id)
    repeated = _repeated(entries)
    state, reason = _state(entries)
    waiting = () if state in FINAL_STATES else tuple(_waiting(flow, entries, repeated))
    gaps = tuple(_gaps(flow, entries, losses, ended=state in FINAL_STATES, cut=cut))
    injected = min(filter(None, (observation.injected for observation in by_id.values())), default=None)
    why, root = reasons.root_cause(flow, entries, state, reason, injected)
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
        took_s=round(_final_entry(entries).at - began_at, 3) if state in FINAL_STATES else None,
        why=why,
        root=root,
        entries=entries,
        undone=tuple(_undone(flow, entries)),
        waiting=waiting,
        remains=remaining,
        remains_note=note,
        gaps=gaps,
    )


# --- where it stands ------------------------------------------------------------------------------------------------------


def _final_entry(entries: Sequence[Entry]) -> Entry:
    return next(entry for entry in entries if entry.type in FINAL_EVENTS)


def _state(entries: Sequence[Entry]) -> tuple[str, str | None]:
    """State and reason. A call for help counts until the service that called is heard to have done it after all."""
    state, escalations = "ACCEPTED", dict[str, Entry]()
    for entry in entries:
        if entry.type == OrderCompleted.type_name:
            return "COMPLETED", None
        if entry.type == OrderRejected.type_name:
            return "REJECTED", entry.facts.get("reason")
        if entry.command:
            continue
        state = "PENDING"
        escalation = escalations.pop(entry.sender, None)
        if issubclass(CATALOGUE[entry.type], StepFailed):
            escalations[entry.sender] = entry
        elif escalation and entry.type == OrderWithdrawn.type_name and escalation.facts.get("step") not in _WITHDRAWAL_COMMANDS:
            escalations[entry.sender] = escalation
    if escalations:
        facts = [*escalations.values()][-1].facts
        return NEEDS_ATTENTION, f"{facts.get('step')}: {facts.get('error')}"
    return state, None


def _repeated(entries: Sequence[Entry]) -> set[int]:
    """The numbers of what shows no movement: an order that is overdue says again and again that it is withdrawn, also when it is
    on its way back already, and those who hear it say again what they said before."""
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
    """Who was told and has not been heard to react: the newest only where one mind leads (it drops what comes late), elsewhere
    each worker and deed once, since it was first told."""
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
                # Whichever stands first in the timeline: what was undone before it came is refused when it comes (a tombstone).
                found.append(Undone(step.undo.__name__, answers[0], _had_effect(flow, entries, step)))
    return sorted(found, key=lambda undone: undone.entry)


def _had_effect(flow: MessageFlow, entries: Sequence[Entry], step: Step) -> bool | None:
    types_seen = {entry.type for entry in entries}
    if step.success.type_name in types_seen:
        return True
    asked = any(flow.handled_commands.get((step.command.service, kind)) == step.command.__name__ for kind in types_seen)
    refused = step.refused is not None and step.refused.type_name in types_seen
    return None if asked and not refused else False


def _remains(
    flow: MessageFlow, entries: Sequence[Entry], state: str, gaps: Collection[str]
) -> tuple[tuple[str, ...], str | None]:
    if state in FINAL_STATES:
        return (), None
    types_seen = {entry.type for entry in entries if not entry.command}
    withdrawn = OrderWithdrawn.type_name in types_seen
    if gaps:
        note = "messages are missing: some of this may have been done"
    elif flow.has_coordinator:
        note = None
    elif withdrawn:
        note = (
            "nobody knows it in choreography, nor how far the order got: every undo is listed, whether it finds anything or not"
        )
    else:
        note = "inferred: nobody knows the sequence in choreography"
    remaining = remaining_steps(types_seen, withdrawn=withdrawn, pivot_first=flow.pivot_first)
    return (*(() if types_seen else (PlaceOrder.__name__,)), *remaining), note


# --- what is not known ----------------------------------------------------------------------------------------------------


def _gaps(flow: MessageFlow, entries: Sequence[Entry], losses: Collection[LossPeriod], *, ended: bool, cut: bool) -> list[str]:
    """What must be missing, and when something may be."""
    missing: dict[str, list[Entry]] = {}
    for entry in entries:
        if entry.missing_cause:
            missing.setdefault(entry.missing_cause, []).append(entry)
    gaps = [_missing_message(flow, effects) for effects in missing.values()]
    until = entries[-1].at if ended else float("inf")
    if any(loss.since < until and loss.until >= entries[0].at for loss in losses):
        gaps.append("the observer lost messages while this order was under way: something may be missing without a trace")
    if cut:
        gaps.append(f"more than {len(entries)} messages: later ones were not kept")
    return gaps


def _missing_message(flow: MessageFlow, effects: Sequence[Entry]) -> str:
    possible: set[str] = set.intersection(*({*flow.possible_causes(entry.type)} for entry in effects))
    names = " or ".join(sorted(CATALOGUE[name].__name__ for name in possible)) or "a message"
    effect_names = ", ".join(f"{entry.name} (#{entry.number})" for entry in effects)
    return f"{names} was not heard, which caused {effect_names}"
