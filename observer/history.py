"""An order's history, built from the messages alone: what happened, because of what, how long it took, and what nobody can know.

Pure: the same sightings give the same history, in whatever order and however often they were heard. Times are
the senders' own (milliseconds), so clocks that differ show as odd durations, never as another order of cause and effect.
"""

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from observer import root_cause as reasons
from observer.entry import Entry
from observer.message_flow import Picture
from observer.observation import Sighting, merged
from observer.timeline import timeline
from orchestrator.fulfilment import FULFILMENT
from orchestrator.remaining_steps import remains
from orchestrator.saga import Step
from services.message_types import CATALOGUE
from services.order.messages import DeadlinePassed, OrderCompleted, OrderRejected, OrderWithdrawn, PlaceOrder, WithdrawOrder
from services.vocabulary import NEEDS_ATTENTION, BackwardEvent, StuckEvent


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
class Loss:
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
        return self.state in ENDED

    def stuck(self, now: float, patience_s: float) -> bool:
        """Whether nothing will move it without help, or nothing has moved it for `patience_s`."""
        return not self.ended and (self.state == NEEDS_ATTENTION or now - self.moved_at > patience_s)

    def as_dict(self) -> dict[str, Any]:
        """As JSON-like values."""
        return asdict(self)


ENDED = ("COMPLETED", "REJECTED")
#: The commands that OrderWithdrawn answers: of every other step it says nothing, however often the order says it.
_WITHDRAWS = (WithdrawOrder.__name__, DeadlinePassed.__name__)
#: The events that end an order, by name on the wire.
ENDS = (OrderCompleted.type_name, OrderRejected.type_name)


def history(picture: Picture, sightings: Sequence[Sighting], losses: Collection[Loss] = (), *, cut: bool = False) -> History:
    """The history of the one order that all of `sightings` (at least one) are about.

    `losses`: times in which the observer lost messages. `cut`: there were more messages than it keeps of one order."""
    seen: dict[str, Sighting] = {}
    for sighting in sightings:
        twin = seen.get(sighting.message_id)
        seen[sighting.message_id] = merged(twin, sighting) if twin else sighting
    entries = timeline(picture, seen)
    repeated = _repeated(entries)
    state, reason = _state(entries)
    waiting = () if state in ENDED else tuple(_waiting(picture, entries, repeated))
    gaps = tuple(_gaps(picture, entries, losses, ended=state in ENDED, cut=cut))
    injected = min(filter(None, (sighting.injected for sighting in seen.values())), default=None)
    why, root = reasons.root_cause(picture, entries, state, reason, injected)
    left, note = _remains(picture, entries, state, gaps)
    began_at, moved_at = entries[0].at, max(entry.at for entry in entries if entry.number not in repeated)
    return History(
        order_id=sightings[0].order_id,
        mode=picture.mode,
        state=state,
        reason=reason,
        wanted=min(filter(None, (sighting.wanted for sighting in seen.values())), default=None),
        injected=injected,
        began_at=began_at,
        moved_at=moved_at,
        took_s=round(_end(entries).at - began_at, 3) if state in ENDED else None,
        why=why,
        root=root,
        entries=entries,
        undone=tuple(_undone(picture, entries)),
        waiting=waiting,
        remains=left,
        remains_note=note,
        gaps=gaps,
    )


# --- where it stands ------------------------------------------------------------------------------------------------------


def _end(entries: Sequence[Entry]) -> Entry:
    return next(entry for entry in entries if entry.type in ENDS)


def _state(entries: Sequence[Entry]) -> tuple[str, str | None]:
    """State and reason. A call for help counts until the service that called is heard to have done it after all."""
    state, calls = "ACCEPTED", dict[str, Entry]()
    for entry in entries:
        if entry.type == OrderCompleted.type_name:
            return "COMPLETED", None
        if entry.type == OrderRejected.type_name:
            return "REJECTED", entry.facts.get("reason")
        if entry.command:
            continue
        state = "PENDING"
        call = calls.pop(entry.sender, None)
        if issubclass(CATALOGUE[entry.type], StuckEvent):
            calls[entry.sender] = entry
        elif call and entry.type == OrderWithdrawn.type_name and call.facts.get("step") not in _WITHDRAWS:
            calls[entry.sender] = call
    if calls:
        facts = [*calls.values()][-1].facts
        return NEEDS_ATTENTION, f"{facts.get('step')}: {facts.get('error')}"
    return state, None


def _repeated(entries: Sequence[Entry]) -> set[int]:
    """The numbers of what shows no movement: an order that is overdue says again and again that it is withdrawn, also when it is
    on its way back already, and those who hear it say again what they said before."""
    heard: set[str] = set()
    back = False
    found: set[int] = set()
    for entry in entries:
        said_again = entry.type == OrderWithdrawn.type_name and back
        if said_again or (entry.cause in found and entry.type in heard):
            found.add(entry.number)
        heard.add(entry.type)
        back = back or issubclass(CATALOGUE[entry.type], BackwardEvent)
    return found


def _waiting(picture: Picture, entries: Sequence[Entry], repeated: set[int]) -> list[Waiting]:
    """Who was told and has not been heard to react: the newest only where one mind leads (it drops what comes late), elsewhere
    each worker and deed once, since it was first told."""
    dropped = {entry.cause for entry in entries} | (repeated if picture.somebody_knows else set())
    done = {(entry.sender, entry.deed): entry.number for entry in entries if entry.deed}
    still = [
        Waiting(worker, deed, entry.number, entry.at)
        for entry in entries
        if entry.number not in dropped and picture.follows.get(entry.type)
        for worker in entry.takers
        if done.get((worker, deed := picture.deeds.get((worker, entry.type), "next command")), 0) < entry.number
    ]
    if picture.somebody_knows:
        return still[-1:]
    return [*{(one.worker, one.deed): one for one in reversed(still)}.values()][::-1]


def _undone(picture: Picture, entries: Sequence[Entry]) -> list[Undone]:
    """The compensations that were answered, each once, in the order of their answers."""
    found: list[Undone] = []
    for step in FULFILMENT.steps:
        if step.undo and step.undone:
            answers = [entry.number for entry in entries if entry.type == step.undone.type_name]
            if answers:
                # Whichever stands first in the timeline: what was undone before it came is refused when it comes (a tombstone).
                found.append(Undone(step.undo.__name__, answers[0], _had_effect(picture, entries, step)))
    return sorted(found, key=lambda undone: undone.entry)


def _had_effect(picture: Picture, entries: Sequence[Entry], step: Step) -> bool | None:
    heard = {entry.type for entry in entries}
    if step.success.type_name in heard:
        return True
    asked = any(picture.deeds.get((step.command.service, kind)) == step.command.__name__ for kind in heard)
    refused = step.refused is not None and step.refused.type_name in heard
    return None if asked and not refused else False


def _remains(picture: Picture, entries: Sequence[Entry], state: str, gaps: Collection[str]) -> tuple[tuple[str, ...], str | None]:
    if state in ENDED:
        return (), None
    heard = {entry.type for entry in entries if not entry.command}
    withdrawn = OrderWithdrawn.type_name in heard
    if gaps:
        note = "messages are missing: some of this may have been done"
    elif picture.somebody_knows:
        note = None
    elif withdrawn:
        note = (
            "nobody knows it in choreography, nor how far the order got: every undo is listed, whether it finds anything or not"
        )
    else:
        note = "inferred: nobody knows the sequence in choreography"
    left = remains(heard, withdrawn=withdrawn, pivot_first=picture.pivot_first)
    return (*(() if heard else (PlaceOrder.__name__,)), *left), note


# --- what is not known ----------------------------------------------------------------------------------------------------


def _gaps(picture: Picture, entries: Sequence[Entry], losses: Collection[Loss], *, ended: bool, cut: bool) -> list[str]:
    """What must be missing, and when something may be."""
    missing: dict[str, list[Entry]] = {}
    for entry in entries:
        if entry.missing_cause:
            missing.setdefault(entry.missing_cause, []).append(entry)
    gaps = [_unheard(picture, effects) for effects in missing.values()]
    until = entries[-1].at if ended else float("inf")
    if any(loss.since < until and loss.until >= entries[0].at for loss in losses):
        gaps.append("the observer lost messages while this order was under way: something may be missing without a trace")
    if cut:
        gaps.append(f"more than {len(entries)} messages: later ones were not kept")
    return gaps


def _unheard(picture: Picture, effects: Sequence[Entry]) -> str:
    possible: set[str] = set.intersection(*({*picture.causes_of(entry.type)} for entry in effects))
    names = " or ".join(sorted(CATALOGUE[name].__name__ for name in possible)) or "a message"
    told = ", ".join(f"{entry.name} (#{entry.number})" for entry in effects)
    return f"{names} was not heard, which caused {told}"
