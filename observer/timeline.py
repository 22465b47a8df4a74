"""The timeline of one order: every message that was observed, ordered by cause and time, as entries of its history."""

from collections.abc import Mapping

from broker.message import Command
from observer import delays as waits
from observer.entry import Entry
from observer.message_flow import Picture
from observer.observation import Sighting
from services.message_types import CATALOGUE
from services.order.messages import OrderWithdrawn, WithdrawOrder
from services.vocabulary import BackwardCommand, BackwardEvent


def timeline(picture: Picture, seen: Mapping[str, Sighting]) -> tuple[Entry, ...]:
    """Every message in the order of causes and times."""
    places = _places(seen)
    ordered = sorted(seen.values(), key=lambda sighting: (*places[sighting.message_id], sighting.message_id))
    numbers = {sighting.message_id: number for number, sighting in enumerate(ordered, start=1)}
    start = places[ordered[0].message_id][0]
    entries: list[Entry] = []
    for sighting in ordered:
        kind = CATALOGUE[sighting.type]
        at = places[sighting.message_id][0]
        cause = numbers.get(sighting.cause or "")
        cause = cause if cause and cause < numbers[sighting.message_id] else None
        trigger = entries[cause - 1] if cause else None
        entry = Entry(
            number=numbers[sighting.message_id],
            message_id=sighting.message_id,
            type=sighting.type,
            name=kind.__name__,
            command=issubclass(kind, Command),
            rollback=issubclass(kind, (BackwardCommand, BackwardEvent)),
            sender=sighting.sender,
            takers=picture.takers.get(sighting.type, ()),
            deed=_deed(picture, sighting, trigger),
            at=at,
            since_start_s=round(at - start, 3),
            cause=cause,
            since_cause_s=round(at - trigger.at, 3) if trigger else None,
            missing_cause=sighting.cause if sighting.cause and not cause else None,
            facts=dict(sighting.facts),
            attempts=sighting.attempt,
            dead=sighting.dead,
            wait=None,
        )
        entries.append(waits.told(entry, trigger, entries, sighting.injected))
    return tuple(entries)


def _deed(picture: Picture, sighting: Sighting, trigger: Entry | None) -> str | None:
    """The command that the sender handled because of `trigger`. The order's own deadline is none, whatever it heard last."""
    if trigger is None or (sighting.type == OrderWithdrawn.type_name and trigger.type != WithdrawOrder.type_name):
        return None
    return picture.deeds.get((sighting.sender, trigger.type))


def _places(seen: Mapping[str, Sighting]) -> dict[str, tuple[float, int]]:
    """Message id -> its time and its depth in the tree of causes. No effect is earlier than its cause, whatever clocks say."""
    places: dict[str, tuple[float, int]] = {}
    for message_id in sorted(seen):
        path: list[str] = []
        current = message_id
        # A cause that is on the path again goes round in a circle, which no honest message does: it counts as not heard.
        while current in seen and current not in places and current not in path:
            path.append(current)
            current = seen[current].cause or ""
        at, depth = places.get(current, (0.0, -1))
        for step in reversed(path):
            at, depth = max(at, seen[step].sent_at), depth + 1
            places[step] = (at, depth)
    return places
