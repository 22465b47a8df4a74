"""Pictures in Mermaid's language: the path that one order took, and a mode as it is written down.

Pure text. Commands are solid, events dashed, rollbacks marked with ↩, as everywhere.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from broker.message import Command
from observer.entry import Entry
from observer.history import History
from observer.message_flow import Picture
from orchestrator.coordinator import NAME as COORDINATOR
from services.message_types import CATALOGUE, SERVICES
from services.message_types import DOOR as COMMANDS_FROM_OUTSIDE
from services.order.messages import PlaceOrder
from services.vocabulary import BackwardCommand, BackwardEvent, StuckEvent

#: Whoever asks for an order or a withdrawal.
DOOR = "door"
#: From left to right, so that what begins an order goes from one to the next; a picture shows those that have a part in it.
PARTIES = (DOOR, PlaceOrder.service, COORDINATOR, *(name for name in SERVICES if name != PlaceOrder.service))


def sequence(history: History) -> str:
    """The path as a sequence diagram: every message to whoever acts on it, with its number; a note where it waited or died."""
    parties = {name for entry in history.entries for name in (entry.sender, *entry.takers)}
    lines = ["sequenceDiagram", *(f"    participant {_plain(name)}" for name in _in_order(parties))]
    for entry in history.entries:
        lines += [f"    {line}" for line in _told(entry)]
    end = " ".join(filter(None, (history.state, history.reason)))
    lines += [f"    Note over {','.join(map(_plain, _ends_of(_in_order(parties))))}: {_plain(f'{end} / {history.why}')}"]
    return "\n".join(lines)


def _told(entry: Entry) -> Iterator[str]:
    sender = _plain(entry.sender)
    if entry.wait:
        yield f"Note over {sender}: {_plain(entry.wait)}"
    label = f"{entry.number} {'↩ ' if entry.rollback else ''}{entry.name}"
    label += f" ({_plain(entry.facts['reason'])})" if "reason" in entry.facts else ""
    for taker in entry.takers:
        yield f"{sender}{'->>' if entry.command else '-->>'}{_plain(taker)}: {label}"
    if not entry.takers:
        yield f"Note over {sender}: {label}"
    if entry.dead:
        where = ",".join(map(_plain, entry.takers or (sender,)))
        yield f"Note over {where}: {entry.number} is a dead letter: {_plain(entry.dead)}"


def _in_order(parties: Iterable[str]) -> list[str]:
    return sorted(parties, key=lambda name: (PARTIES.index(name) if name in PARTIES else len(PARTIES), name))


def _ends_of(parties: list[str]) -> list[str]:
    return [parties[0], parties[-1]] if len(parties) > 1 else parties


def _plain(text: str) -> str:
    """`text` without what means something to Mermaid: what is heard may come from anybody."""
    return "".join(letter if letter.isalnum() or letter in " .,:_-()/'↩" else " " for letter in text).strip() or "unknown"


# --- a mode as it is written down -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Edge:
    """A message between two parties. `does` is the command that the taker handles because of an event, where it is not the
    message itself."""

    sender: str
    taker: str
    message: str
    command: bool
    rollback: bool
    does: str | None


def edges(picture: Picture) -> tuple[Edge, ...]:
    """Who sends what to whom in a mode. Calls for help, which every service may send, are left out."""
    found = []
    for name, takers in picture.takers.items():
        kind = CATALOGUE[name]
        if issubclass(kind, StuckEvent):
            continue
        command = issubclass(kind, Command)
        asker = DOOR if kind in COMMANDS_FROM_OUTSIDE else COORDINATOR
        for taker in takers:
            deed = picture.deeds.get((taker, name))
            found.append(
                Edge(
                    sender=asker if command else kind.service,
                    taker=taker,
                    message=kind.__name__,
                    command=command,
                    rollback=issubclass(kind, (BackwardCommand, BackwardEvent)),
                    does=deed if deed != kind.__name__ else None,
                )
            )
    return tuple(found)


def static(picture: Picture) -> str:
    """The mode as a flowchart: one arrow for each pair of parties and each kind of message between them."""
    lines = ["flowchart LR", f"    {DOOR}([{DOOR}])"]
    labels: dict[tuple[str, str, bool], list[str]] = {}
    for edge in edges(picture):
        label = f"{'↩ ' if edge.rollback else ''}{edge.message}{f' → {edge.does}' if edge.does else ''}"
        labels.setdefault((edge.sender, edge.taker, edge.command), []).append(label)
    for (sender, taker, command), names in labels.items():
        lines.append(f'    {sender} {"-->" if command else "-.->"}|"{"<br/>".join(names)}"| {taker}')
    return "\n".join(lines)
