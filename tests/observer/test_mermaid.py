"""The diagrams: they show what happened, or what the tables define, in syntax that Mermaid accepts."""

import re
from dataclasses import replace

import pytest

from bootstrap.modes import Mode
from choreography.reactions import REACTIONS
from dashboard.lanes.lane import columns_of
from lab.journeys.catalogue import JOURNEYS
from observer.history import History, build_history
from observer.mermaid import edges, flowchart, sequence_diagram
from observer.message_flow import MESSAGE_FLOWS
from orchestrator.fulfilment import FULFILMENT
from tests.support.journey_observations import journey, told
from tests.support.system import MODES

PARTICIPANT = re.compile(r"    participant (\w+)")
ARROW = re.compile(r"    (\w+)(->>|-->>)(\w+): (\d+) (?:↩ )?(\w+)(?: \([\w ]+\))?")
NOTE = re.compile(r"    Note over (\w+)(?:,(\w+))?: ([^;#<>]+)")


def drawn(one: History) -> tuple[list[str], list[tuple[str, str, str, int, str]]]:
    """The participants and arrows of a diagram. Every line must match one of the patterns."""
    head, *lines = sequence_diagram(one).splitlines()
    assert head == "sequenceDiagram"
    participants, arrows = [], []
    for line in lines:
        if found := PARTICIPANT.fullmatch(line):
            participants.append(found[1])
        elif found := ARROW.fullmatch(line):
            arrows.append((found[1], found[2], found[3], int(found[4]), found[5]))
        else:
            assert NOTE.fullmatch(line), line
    return participants, arrows


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", JOURNEYS)
def test_sequence_diagram_shows_every_message_that_has_a_taker(mode: Mode, name: str) -> None:
    one = told(mode, name)
    participants, arrows = drawn(one)
    assert arrows == [
        (entry.sender, "->>" if entry.command else "-->>", taker, entry.number, entry.name)
        for entry in one.entries
        for taker in entry.takers
    ]
    assert {name for arrow in arrows for name in (arrow[0], arrow[2])} <= set(participants)
    assert ("coordinator" in participants) == (mode is Mode.ORCHESTRATOR and one.entries[1].name != "OrderRejected")


def test_forged_message_cannot_break_a_diagram() -> None:
    forged = "a; end\n    b->>c: <script>#quot;"
    observations = journey(Mode.CHOREOGRAPHY, "happy")
    changed = [replace(one, sender=forged, facts={"reason": forged}, dead=forged) for one in observations]
    text = sequence_diagram(build_history(MESSAGE_FLOWS[Mode.CHOREOGRAPHY], changed))
    assert not re.search(r"[;#<>]", text.replace("->>", ""))
    assert all(line.split()[0] in ("participant", "Note") or "->>" in line for line in text.splitlines()[1:])


def test_edges_of_choreography_are_the_reactions_and_the_api_commands() -> None:
    shown = [(edge.sender, edge.message, edge.taker, edge.does) for edge in edges(MESSAGE_FLOWS["choreography"])]
    reactions = [(row.when.service, row.when.__name__, row.by, row.does.__name__) for row in REACTIONS]
    api = [("api", "PlaceOrder", "order", None), ("api", "WithdrawOrder", "order", None)]
    assert sorted(map(str, shown)) == sorted(map(str, reactions + api))


def test_edges_of_the_orchestrator_all_meet_the_coordinator() -> None:
    shown = edges(MESSAGE_FLOWS["orchestrator"])
    sent = {(edge.message, edge.taker) for edge in shown if edge.sender == "coordinator"}
    commands = [kind for step in FULFILMENT.steps for kind in (step.command, step.undo) if kind] + [FULFILMENT.rejects]
    assert sent == {(kind.__name__, kind.service) for kind in commands}
    assert {edge.taker for edge in shown if not edge.command} == {"coordinator"}
    assert {edge.message for edge in shown if not edge.command} == {kind.__name__ for kind in FULFILMENT.events()}


@pytest.mark.parametrize("mode", MODES)
def test_flowchart_shows_every_edge(mode: Mode) -> None:
    text = flowchart(MESSAGE_FLOWS[mode])
    for edge in edges(MESSAGE_FLOWS[mode]):
        lines = [line for line in text.splitlines() if edge.message in line]
        arrow = "-->" if edge.command else "-.->"
        assert any(line.startswith(f"    {edge.sender} {arrow}|") and line.endswith(f"| {edge.taker}") for line in lines), edge


@pytest.mark.parametrize("mode", MODES)
def test_participants_are_in_the_order_of_the_dashboard_columns(mode: Mode) -> None:
    participants, _ = drawn(told(mode, "happy"))
    assert participants == columns_of(mode)
