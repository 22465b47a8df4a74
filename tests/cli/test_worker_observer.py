"""The observer of `saga up` on real servers, through `saga order explain` and `saga watch`; it is killed in between."""

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from bootstrap.modes import Mode
from observer.recorder import NAME
from tests.support.cli import BOTH, SAGA, UNKNOWN_ID, RunningMode, eventually, up

pytestmark = [pytest.mark.real, pytest.mark.usefixtures("removed"), pytest.mark.timeout(240)]

#: Seconds that the server locks the documents of an observer that was killed during a commit.
TRANSACTION_S = 60.0


def explained(running: RunningMode, order_id: str, state: str) -> Any:
    """The history of an order once the observer has recorded its end."""
    history: dict[str, Any] = {}

    def has_ended() -> bool:
        result = running.run("order", "explain", order_id, "--mode", running.mode, "--json")
        history.update(json.loads(result.stdout) if result.returncode == 0 else {})
        return history.get("state") == state

    eventually(has_ended, f"the observer to record the end of {order_id}", TRANSACTION_S + 15.0)
    return history


@BOTH
def test_orders_end_and_are_explained_while_the_observer_is_killed(mode: Mode, env: dict[str, str], tmp_path: Path) -> None:
    with up(mode, env, tmp_path / "log") as running:
        running.saga("stock", "set", "book", "50")
        eventually(
            lambda: any(event["event"] == "started" and event["service"] == NAME for event in running.events()), "the observer"
        )
        orders = []
        for _ in range(2):
            orders.append(running.saga("order", "place", "book", "--fail", "payment:declined", "--wait")["order_id"])
            os.kill(running.children()[NAME], signal.SIGKILL)
            refused = running.saga("order", "place", "book=2", "--fail", "delivery:undeliverable", "--wait")
            assert refused["state"] == "REJECTED"
            orders.append(refused["order_id"])
            eventually(lambda: NAME in running.children(), "the observer to be restarted")
        for number, order_id in enumerate(orders):
            history = explained(running, order_id, "REJECTED")
            assert (history["gaps"], history["remains"], history["mode"]) == ([], [], mode)
            assert history["why"].startswith(
                "payment: the payment gateway declined" if number % 2 == 0 else "delivery: there is no delivery"
            )
            assert [undone["command"] for undone in history["undone"]][-1:] == ["ReleaseStock"]
        result = running.run("order", "explain", orders[-1], "--mode", mode).stdout
        assert (
            result.index("why: delivery: there is no delivery to this address")
            < result.index("PlaceOrder")
            < result.index("remains: nothing")
        )
        assert running.run("order", "explain", orders[-1], "--mode", mode, "--mermaid").stdout.startswith("sequenceDiagram\n")
        assert running.saga("audit")["ok"]
        running.saga("reset", "--yes")
        assert running.run("order", "explain", orders[-1], "--mode", mode).returncode == 1


def test_watch_shows_an_order_progress_get_stuck_and_end(env: dict[str, str], tmp_path: Path) -> None:
    with up(Mode.CHOREOGRAPHY, env, tmp_path / "log") as running:
        running.saga("stock", "set", "book", "5")
        flags = ["--mode", running.mode, "--for", "12", "--every", "0.1", "--patience", "0.5", "--json"]
        watching = subprocess.Popen([*SAGA, "watch", *flags], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env)
        order_id = running.saga("order", "place", "book", "--fail", "payment:hang", "--wait")["order_id"]
        output, errors = watching.communicate(timeout=60)
        assert (watching.returncode, errors) == (0, b"")
        lines = [json.loads(line) for line in output.splitlines()]
        assert {line["order_id"] for line in lines} == {order_id}
        assert [line["messages"] for line in lines] == sorted(line["messages"] for line in lines)
        assert [line["waits_for"] for line in lines if line["stuck"]][:1] == [["payment"]]
        assert (lines[-1]["state"], lines[-1]["reason"], lines[-1]["stuck"]) == ("REJECTED", "payment_timeout", False)


def test_unknown_order_is_reported_with_the_next_step(env: dict[str, str], tmp_path: Path) -> None:
    with up(Mode.CHOREOGRAPHY, env, tmp_path / "log", "--no-observer") as running:
        assert NAME not in running.children()
        result = running.run("order", "explain", UNKNOWN_ID, "--mode", "choreography")
        assert result.returncode == 1
        assert f"has no record of order {UNKNOWN_ID}" in result.stderr
        assert "saga worker observer --mode choreography" in result.stderr
