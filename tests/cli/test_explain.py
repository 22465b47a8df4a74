"""What the terminal says of an order's history, in the demo where everything was heard, and of a mode's picture.

No server runs.
"""

import json
from dataclasses import replace

import pytest

from bootstrap.modes import Mode
from cli.commands.watch import WatchFrame, _table
from cli.history_view import print_history
from cli.output import data
from observer.history import History, build_history
from observer.message_flow import MESSAGE_FLOWS
from tests.support.cli import NOBODY, typed
from tests.support.journey_observations import failing, journey, told


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
        one = run["explained"]
        assert (one["state"], one["reason"], one["remains"], one["gaps"]) == ("REJECTED", "deadline", [], [])
        assert [undone["command"] for undone in one["undone"]][-2:] == ["VoidPayment", "ReleaseStock"]
        assert all(entry["cause"] for entry in one["entries"] if entry["sender"] != "door")


def test_the_demo_draws_the_path_of_each_mode() -> None:
    said = typed("demo", "--journey", "happy", "--mermaid").stdout
    assert said.count("sequenceDiagram") == 2
    assert "coordinator->>inventory: 3 ReserveStock" in said
    assert "order-->>inventory: 2 OrderPlaced" in said


@pytest.mark.parametrize("mode", Mode)
def test_a_diagram_is_the_same_for_people_and_scripts(mode: Mode) -> None:
    as_text = typed("diagram", "--mode", mode).stdout
    drawn = json.loads(typed("diagram", "--mode", mode, "--json").stdout)
    assert as_text == drawn["mermaid"] + "\n"
    assert {edge["command"] for edge in drawn["edges"] if edge["sender"] != "door"} == (
        {True, False} if mode == "orchestrator" else {False}
    )


def under_way(mode: Mode) -> History:
    """An order whose payment has been asked for and has not reacted, of which one message was not heard."""
    heard = list(journey(mode, "happy"))
    told = "inventory.StockReserved" if mode is Mode.CHOREOGRAPHY else "payment.AuthorizePayment"
    last = [seen.type for seen in heard].index(told)
    return build_history(MESSAGE_FLOWS[mode], [seen for seen in heard[: last + 1] if seen.type != "order.OrderPlaced"])


@pytest.mark.parametrize("mode", Mode)
def test_of_an_order_under_way_it_says_whom_it_waits_for_what_remains_and_what_is_not_known(
    mode: Mode, capsys: pytest.CaptureFixture[str]
) -> None:
    one = under_way(mode)
    print_history(one, one.moved_at + 7.0)
    said = " ".join(capsys.readouterr().out.split())
    assert "waits for: payment to do AuthorizePayment, told by" in said
    assert "7.0 s ago" in said
    assert "remains: AuthorizePayment > ScheduleDelivery > CompleteOrder (messages are missing: some of this may" in said
    assert "not known: OrderPlaced was not heard, which caused" in said
    assert "after something that was not heard" in said


@pytest.mark.parametrize("mode", Mode)
def test_of_an_order_that_needs_attention_it_says_what_to_do(mode: Mode, capsys: pytest.CaptureFixture[str]) -> None:
    one, state, _ = failing(mode, "payment:declined", "inventory:undo_error")
    print_history(one, one.moved_at)
    said = capsys.readouterr().out
    assert state == "NEEDS_ATTENTION"
    assert "why: inventory: ReleaseStock has failed for good" in said
    assert f"next: mend what failed, then saga order redrive {one.order_id} --mode {mode}" in said


def test_a_screen_shows_the_stuck_with_their_reason_and_the_others_with_whom_they_wait_for(
    capsys: pytest.CaptureFixture[str],
) -> None:
    one, other = under_way(Mode.CHOREOGRAPHY), replace(told(Mode.CHOREOGRAPHY, "declined"), order_id=NOBODY)
    data.print(_table(Mode.CHOREOGRAPHY, WatchFrame((one, other), frozenset([one.order_id]), 1)))
    said = capsys.readouterr().out
    assert "choreography: 1 open, 1 stuck" in said
    first, second = (next(line for line in said.splitlines() if shown.order_id in line) for shown in (one, other))
    assert "PENDING" in first
    assert "STUCK" in first
    assert "REJECTED" in second


def test_a_screen_on_which_nothing_is_to_be_seen_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    data.print(_table(Mode.CHOREOGRAPHY, WatchFrame((), frozenset(), 0)))
    assert "the observer has heard of no order yet" in capsys.readouterr().out
