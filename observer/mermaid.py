"""Pictures in Mermaid's language: the path that one order took, and a mode as it is written down.

Pure text. Commands are solid, events dashed, rollbacks marked with ↩, as everywhere.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from broker.message import Command
from observer.entry import Entry
from observer.history import History
from observer.message_flow import MessageFlow
from orchestrator.coordinator import NAME as COORDINATOR
from services.message_types import API_COMMANDS, CATALOGUE, SERVICES
from services.order.messages import PlaceOrder
from services.vocabulary import BackwardCommand, BackwardEvent, StepFailed

#: Whoever asks for an order or a withdrawal.
API = "door"
#: From left to right, so that what begins an order goes from one to the next; a picture shows those that have a part in it.
PARTICIPANTS = (API, PlaceOrder.service, COORDINATOR, *(name for name in SERVICES if name != PlaceOrder.service))


def sequence_diagram(history: History) -> str:
    """The path as a sequence diagram: every message to whoever acts on it, with its number; a note where it waited or died."""
    participants = {name for entry in history.entries for name in (entry.sender, *entry.takers)}
    lines = ["sequenceDiagram", *(f"    participant {_escaped(name)}" for name in _sorted_participants(participants))]
    for entry in history.entries:
        lines += [f"    {line}" for line in _entry_lines(entry)]
    end = " ".join(filter(None, (history.state, history.reason)))
    lines += [
        f"    Note over {','.join(map(_escaped, _first_and_last(_sorted_participants(participants))))}: {_escaped(f'{end} / {history.why}')}"
    ]
    return "\n".join(lines)


def _entry_lines(entry: Entry) -> Iterator[str]:
    sender = _escaped(entry.sender)
    if entry.wait:
        yield f"Note over {sender}: {_escaped(entry.wait)}"
    label = f"{entry.number} {'↩ ' if entry.rollback else ''}{entry.name}"
    label += f" ({_escaped(entry.facts['reason'])})" if "reason" in entry.facts else ""
    for taker in entry.takers:
        yield f"{sender}{'->>' if entry.command else '-->>'}{_escaped(taker)}: {label}"
    if not entry.takers:
        yield f"Note over {sender}: {label}"
    if entry.dead:
        where = ",".join(map(_escaped, entry.takers or (sender,)))
        yield f"Note over {where}: {entry.number} is a dead letter: {_escaped(entry.dead)}"


def _sorted_participants(participants: Iterable[str]) -> list[str]:
    return sorted(participants, key=lambda name: (PARTICIPANTS.index(name) if name in PARTICIPANTS else len(PARTICIPANTS), name))


def _first_and_last(participants: list[str]) -> list[str]:
    return [participants[0], participants[-1]] if len(participants) > 1 else participants


def _escaped(text: str) -> str:
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


def edges(flow: MessageFlow) -> tuple[Edge, ...]:
    """Who sends what to whom in a mode. Calls for help, which every service may send, are left out."""
    found = []
    for name, takers in flow.takers.items():
        kind = CATALOGUE[name]
        if issubclass(kind, StepFailed):
            continue
        command = issubclass(kind, Command)
        source = API if kind in API_COMMANDS else COORDINATOR
        for taker in takers:
            handled = flow.handled_commands.get((taker, name))
            found.append(
                Edge(
                    sender=source if command else kind.service,
                    taker=taker,
                    message=kind.__name__,
                    command=command,
                    rollback=issubclass(kind, (BackwardCommand, BackwardEvent)),
                    does=handled if handled != kind.__name__ else None,
                )
            )
    return tuple(found)


def flowchart(flow: MessageFlow) -> str:
    """The mode as a flowchart: one arrow for each pair of parties and each kind of message between them."""
    lines = ["flowchart LR", f"    {API}([{API}])"]
    labels: dict[tuple[str, str, bool], list[str]] = {}
    for edge in edges(flow):
        label = f"{'↩ ' if edge.rollback else ''}{edge.message}{f' → {edge.does}' if edge.does else ''}"
        labels.setdefault((edge.sender, edge.taker, edge.command), []).append(label)
    for (sender, taker, command), names in labels.items():
        lines.append(f'    {sender} {"-->" if command else "-.->"}|"{"<br/>".join(names)}"| {taker}')
    return "\n".join(lines)
