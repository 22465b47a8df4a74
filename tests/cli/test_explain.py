"""The printed history of an order, in the demo and from observations, and the diagram of a mode. Needs no server."""

import json
from dataclasses import replace

import pytest

from bootstrap.modes import Mode
from cli.commands.watch import WatchFrame, _table
from cli.history_view import print_history
from cli.output import data
from observer.history import History, build_history
from observer.message_flow import MESSAGE_FLOWS
from tests.support.cli import UNKNOWN_ID, invoke
from tests.support.journey_observations import failing, journey, told


def test_demo_explains_the_root_cause_before_the_path() -> None:
    output = invoke("demo", "--journey", "undeliverable", "--explain").stdout
    for part in output.split("delivery refused")[1:]:
        assert (
            part.index("why: delivery: there is no delivery to this address")
            < part.index("PlaceOrder")
            < part.index("undone: VoidPayment")
        )
    assert "payment did AuthorizePayment after StockReserved" in " ".join(output.split())
    assert "coordinator decided after DeliveryRejected (#8)" in output


def test_demo_explains_as_json() -> None:
    runs = json.loads(invoke("demo", "--journey", "payment-down", "--explain", "--json").stdout)["runs"]
    assert [run["explained"]["mode"] for run in runs] == ["orchestrator", "choreography"]
    for run in runs:
        one = run["explained"]
        assert (one["state"], one["reason"], one["remains"], one["gaps"]) == ("REJECTED", "deadline", [], [])
        assert [undone["command"] for undone in one["undone"]][-2:] == ["VoidPayment", "ReleaseStock"]
        assert all(entry["cause"] for entry in one["entries"] if entry["sender"] != "api")


def test_demo_draws_the_path_of_each_mode() -> None:
    output = invoke("demo", "--journey", "happy", "--mermaid").stdout
    assert output.count("sequenceDiagram") == 2
    assert "coordinator->>inventory: 3 ReserveStock" in output
    assert "order-->>inventory: 2 OrderPlaced" in output


@pytest.mark.parametrize("mode", Mode)
def test_diagram_is_the_same_as_text_and_as_json(mode: Mode) -> None:
    as_text = invoke("diagram", "--mode", mode).stdout
    drawn = json.loads(invoke("diagram", "--mode", mode, "--json").stdout)
    assert as_text == drawn["mermaid"] + "\n"
    assert {edge["command"] for edge in drawn["edges"] if edge["sender"] != "api"} == (
        {True, False} if mode == "orchestrator" else {False}
    )


def open_order(mode: Mode) -> History:
    """An order that waits for payment, of which one message was not observed."""
    observed = list(journey(mode, "happy"))
    trigger = "inventory.StockReserved" if mode is Mode.CHOREOGRAPHY else "payment.AuthorizePayment"
    last = [observation.type for observation in observed].index(trigger)
    return build_history(MESSAGE_FLOWS[mode], [it for it in observed[: last + 1] if it.type != "order.OrderPlaced"])


@pytest.mark.parametrize("mode", Mode)
def test_open_order_shows_waits_remaining_steps_and_missing_messages(mode: Mode, capsys: pytest.CaptureFixture[str]) -> None:
    one = open_order(mode)
    print_history(one, one.moved_at + 7.0)
    output = " ".join(capsys.readouterr().out.split())
    assert "waits for: payment to do AuthorizePayment, triggered by" in output
    assert "7.0 s ago" in output
    assert "remains: AuthorizePayment > ScheduleDelivery > CompleteOrder (messages are missing: some of this may" in output
    assert "not known: OrderPlaced was not observed, which caused" in output
    assert "after a message that was not observed" in output


@pytest.mark.parametrize("mode", Mode)
def test_order_that_needs_attention_shows_the_next_step(mode: Mode, capsys: pytest.CaptureFixture[str]) -> None:
    one, state, _ = failing(mode, "payment:declined", "inventory:undo_error")
    print_history(one, one.moved_at)
    output = capsys.readouterr().out
    assert state == "NEEDS_ATTENTION"
    assert "why: inventory: ReleaseStock has exhausted its retry budget" in output
    assert f"next: fix what failed, then saga order redrive {one.order_id} --mode {mode}" in output


def test_watch_shows_stuck_orders_with_reason_and_others_with_waits(capsys: pytest.CaptureFixture[str]) -> None:
    one, other = open_order(Mode.CHOREOGRAPHY), replace(told(Mode.CHOREOGRAPHY, "declined"), order_id=UNKNOWN_ID)
    data.print(_table(Mode.CHOREOGRAPHY, WatchFrame((one, other), frozenset([one.order_id]), 1)))
    output = capsys.readouterr().out
    assert "choreography: 1 open, 1 stuck" in output
    first, second = (next(line for line in output.splitlines() if shown.order_id in line) for shown in (one, other))
    assert "PENDING" in first
    assert "STUCK" in first
    assert "REJECTED" in second


def test_watch_without_orders_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    data.print(_table(Mode.CHOREOGRAPHY, WatchFrame((), frozenset(), 0)))
    assert "the observer has no order yet" in capsys.readouterr().out
