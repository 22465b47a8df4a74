"""Diagrams in Mermaid's language: the path of one order, and the message flow of a mode.

Pure functions that return text. Commands are solid arrows, events dashed ones, rollbacks are marked with ↩.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from broker.message import Command
from observer.entry import Entry
from observer.history import History
from observer.message_flow import MessageFlow
from orchestrator.coordinator import NAME as COORDINATOR
from services.message_types import API_COMMANDS, API_NAME, CATALOGUE, SERVICES
from services.order.messages import PlaceOrder
from services.vocabulary import BackwardCommand, BackwardEvent, StepFailed

#: The participants from left to right, in the direction in which an order begins. A diagram shows those that take part in it.
PARTICIPANTS = (API_NAME, PlaceOrder.service, COORDINATOR, *(name for name in SERVICES if name != PlaceOrder.service))


def sequence_diagram(history: History) -> str:
    """The path of one order as a sequence diagram.

    Every message is an arrow to each worker that acts on it, labelled with its number. Notes show waits and dead letters."""
    participants = _sorted_participants({name for entry in history.entries for name in (entry.sender, *entry.takers)})
    lines = ["sequenceDiagram", *(f"    participant {_escaped(name)}" for name in participants)]
    for entry in history.entries:
        lines += [f"    {line}" for line in _entry_lines(entry)]
    end = " ".join(filter(None, (history.state, history.reason)))
    span = ",".join(map(_escaped, _first_and_last(participants)))
    lines.append(f"    Note over {span}: {_escaped(f'{end} / {history.why}')}")
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
    """`text` without the characters that mean something to Mermaid: senders and facts come from messages, which may be forged."""
    return "".join(letter if letter.isalnum() or letter in " .,:_-()/'↩" else " " for letter in text).strip() or "unknown"


# --- message flow ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Edge:
    """A message between two participants.

    `does` is the command that the taker handles because of an event; None where the message is that command itself."""

    sender: str
    taker: str
    message: str
    command: bool
    rollback: bool
    does: str | None


def edges(flow: MessageFlow) -> tuple[Edge, ...]:
    """Every message of a mode with its sender and taker. Escalations, which every service may publish, are left out."""
    found = []
    for name, takers in flow.takers.items():
        kind = CATALOGUE[name]
        if issubclass(kind, StepFailed):
            continue
        command = issubclass(kind, Command)
        source = API_NAME if kind in API_COMMANDS else COORDINATOR
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
    """The mode as a flowchart: one arrow for each pair of participants and each kind of message between them."""
    lines = ["flowchart LR", f"    {API_NAME}([{API_NAME}])"]
    labels: dict[tuple[str, str, bool], list[str]] = {}
    for edge in edges(flow):
        label = f"{'↩ ' if edge.rollback else ''}{edge.message}{f' → {edge.does}' if edge.does else ''}"
        labels.setdefault((edge.sender, edge.taker, edge.command), []).append(label)
    for (sender, taker, command), names in labels.items():
        lines.append(f'    {sender} {"-->" if command else "-.->"}|"{"<br/>".join(names)}"| {taker}')
    return "\n".join(lines)
