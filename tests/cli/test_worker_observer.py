"""`saga order explain` beside a running `saga up`, as a user types it, on real parts; the observer is killed now and then."""

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from bootstrap.modes import Mode
from observer.recorder import NAME
from tests.support.cli import BOTH, NOBODY, SAGA, Up, eventually, up

pytestmark = [pytest.mark.real, pytest.mark.usefixtures("removed"), pytest.mark.timeout(240)]

#: One that is killed in a commit leaves its documents to the server, which keeps them from the next for so long.
TRANSACTION_S = 60.0


def explained(running: Up, order_id: str, state: str) -> Any:
    """What is told of an order once the observer has heard its end."""
    told: dict[str, Any] = {}

    def has_ended() -> bool:
        said = running.run("order", "explain", order_id, "--mode", running.mode, "--json")
        told.update(json.loads(said.stdout) if said.returncode == 0 else {})
        return told.get("state") == state

    eventually(has_ended, f"the observer to hear the end of {order_id}", TRANSACTION_S + 15.0)
    return told


@BOTH
def test_orders_are_explained_while_the_observer_is_killed_and_come_to_their_end_all_the_same(
    mode: Mode, env: dict[str, str], tmp_path: Path
) -> None:
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
            eventually(lambda: NAME in running.children(), "the observer to be started again")
        for number, order_id in enumerate(orders):
            told = explained(running, order_id, "REJECTED")
            assert (told["gaps"], told["remains"], told["mode"]) == ([], [], mode)
            assert told["why"].startswith(
                "payment: the payment gateway said no" if number % 2 == 0 else "delivery: nobody delivers"
            )
            assert [undone["command"] for undone in told["undone"]][-1:] == ["ReleaseStock"]
        said = running.run("order", "explain", orders[-1], "--mode", mode).stdout
        assert said.index("why: delivery: nobody delivers there") < said.index("PlaceOrder") < said.index("remains: nothing")
        assert running.run("order", "explain", orders[-1], "--mode", mode, "--mermaid").stdout.startswith("sequenceDiagram\n")
        assert running.saga("audit")["ok"]
        running.saga("reset", "--yes")
        assert running.run("order", "explain", orders[-1], "--mode", mode).returncode == 1


def test_whoever_watches_sees_orders_move_get_stuck_and_end(env: dict[str, str], tmp_path: Path) -> None:
    with up(Mode.CHOREOGRAPHY, env, tmp_path / "log") as running:
        running.saga("stock", "set", "book", "5")
        flags = ["--mode", running.mode, "--for", "12", "--every", "0.1", "--patience", "0.5", "--json"]
        watching = subprocess.Popen([*SAGA, "watch", *flags], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env)
        order_id = running.saga("order", "place", "book", "--fail", "payment:hang", "--wait")["order_id"]
        said, trouble = watching.communicate(timeout=60)
        assert (watching.returncode, trouble) == (0, b"")
        lines = [json.loads(line) for line in said.splitlines()]
        assert {line["order_id"] for line in lines} == {order_id}
        assert [line["messages"] for line in lines] == sorted(line["messages"] for line in lines)
        assert [line["waits_for"] for line in lines if line["stuck"]][:1] == [["payment"]]
        assert (lines[-1]["state"], lines[-1]["reason"], lines[-1]["stuck"]) == ("REJECTED", "payment_timeout", False)


def test_an_order_that_was_never_heard_of_is_said_to_be_so_with_what_to_do(env: dict[str, str], tmp_path: Path) -> None:
    with up(Mode.CHOREOGRAPHY, env, tmp_path / "log", "--no-observer") as running:
        assert NAME not in running.children()
        said = running.run("order", "explain", NOBODY, "--mode", "choreography")
        assert said.returncode == 1
        assert f"has not heard of order {NOBODY}" in said.stderr
        assert "saga worker observer --mode choreography" in said.stderr
