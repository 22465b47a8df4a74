"""The timeline of an order: every message that was observed, ordered by cause and time, as entries of its history."""

from collections.abc import Mapping

from broker.message import Command
from observer.delays import with_wait
from observer.entry import Entry
from observer.message_flow import MessageFlow
from observer.observation import Observation
from services.message_types import CATALOGUE
from services.order.messages import OrderWithdrawn, WithdrawOrder
from services.vocabulary import BackwardCommand, BackwardEvent


def timeline(flow: MessageFlow, by_id: Mapping[str, Observation]) -> tuple[Entry, ...]:
    """The entries of one order, causes before effects, else by time."""
    places = _places(by_id)
    ordered = sorted(by_id.values(), key=lambda observation: (*places[observation.message_id], observation.message_id))
    numbers = {observation.message_id: number for number, observation in enumerate(ordered, start=1)}
    start = places[ordered[0].message_id][0]
    entries: list[Entry] = []
    for observation in ordered:
        kind = CATALOGUE[observation.type]
        at = places[observation.message_id][0]
        cause = numbers.get(observation.cause or "")
        cause = cause if cause and cause < numbers[observation.message_id] else None
        trigger = entries[cause - 1] if cause else None
        entry = Entry(
            number=numbers[observation.message_id],
            message_id=observation.message_id,
            type=observation.type,
            name=kind.__name__,
            command=issubclass(kind, Command),
            rollback=issubclass(kind, (BackwardCommand, BackwardEvent)),
            sender=observation.sender,
            takers=flow.takers.get(observation.type, ()),
            deed=_handled_command(flow, observation, trigger),
            at=at,
            since_start_s=round(at - start, 3),
            cause=cause,
            since_cause_s=round(at - trigger.at, 3) if trigger else None,
            missing_cause=observation.cause if observation.cause and not cause else None,
            facts=dict(observation.facts),
            attempts=observation.attempt,
            dead=observation.dead,
            wait=None,
        )
        entries.append(with_wait(entry, trigger, entries, observation.injected))
    return tuple(entries)


def _handled_command(flow: MessageFlow, observation: Observation, trigger: Entry | None) -> str | None:
    """The command that the sender handled because of `trigger`.

    None for a withdrawal by the order's deadline, which is no message: its trigger is the last message that the order handled."""
    if trigger is None or (observation.type == OrderWithdrawn.type_name and trigger.type != WithdrawOrder.type_name):
        return None
    return flow.handled_commands.get((observation.sender, trigger.type))


def _places(by_id: Mapping[str, Observation]) -> dict[str, tuple[float, int]]:
    """Message id -> its time and its depth in the tree of causes. No effect precedes its cause, even if clocks differ."""
    places: dict[str, tuple[float, int]] = {}
    for message_id in sorted(by_id):
        path: list[str] = []
        current = message_id
        # A cause that is already on the path closes a circle, which only forged messages do: it counts as not observed.
        while current in by_id and current not in places and current not in path:
            path.append(current)
            current = by_id[current].cause or ""
        at, depth = places.get(current, (0.0, -1))
        for step in reversed(path):
            at, depth = max(at, by_id[step].sent_at), depth + 1
            places[step] = (at, depth)
    return places
