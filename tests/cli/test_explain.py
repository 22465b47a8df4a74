"""What the terminal says of an order's history, in the demo where everything was heard, and of a mode's picture.

Room: tests/. No server runs.
"""

import json

import pytest

from lab.modes import Mode
from tests.cli.test_without_servers import typed


def test_the_demo_explains_what_happened_the_root_cause_before_the_path() -> None:
    said = typed("demo", "--journey", "undeliverable", "--explain").stdout
    for part in said.split("delivery refused")[1:]:
        assert part.index("why: delivery: nobody delivers there") < part.index("PlaceOrder") < part.index("undone: VoidPayment")
    assert "payment did AuthorizePayment after StockReserved" in " ".join(said.split())
    assert "coordinator decided after DeliveryRejected (#8)" in said


def test_the_demo_explains_to_scripts() -> None:
    runs = json.loads(typed("demo", "--journey", "payment-down", "--explain", "--json").stdout)["runs"]
    assert [run["explained"]["mode"] for run in runs] == ["orchestrator", "choreography"]
    for run in runs:
        told = run["explained"]
        assert (told["state"], told["reason"], told["remains"], told["gaps"]) == ("REJECTED", "deadline", [], [])
        assert [undone["command"] for undone in told["undone"]][-2:] == ["VoidPayment", "ReleaseStock"]
        assert all(entry["cause"] for entry in told["entries"] if entry["sender"] != "door")


def test_the_demo_draws_the_path_of_each_mode() -> None:
    said = typed("demo", "--journey", "happy", "--mermaid").stdout
    assert said.count("sequenceDiagram") == 2
    assert "coordinator->>inventory: 3 ReserveStock" in said
    assert "order-->>inventory: 2 OrderPlaced" in said


@pytest.mark.parametrize("mode", Mode)
def test_a_diagram_is_the_same_for_people_and_scripts(mode: Mode) -> None:
    as_text = typed("diagram", "--mode", mode).stdout
    told = json.loads(typed("diagram", "--mode", mode, "--json").stdout)
    assert as_text == told["mermaid"] + "\n"
    assert {edge["command"] for edge in told["edges"] if edge["sender"] != "door"} == (
        {True, False} if mode == "orchestrator" else {False}
    )
