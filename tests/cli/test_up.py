"""`saga up`, and commands on the mode that it runs, on real servers.

Each test deletes the queues and databases of the modes.
"""

import json
import os
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from bootstrap.modes import Mode, roles
from observer.recorder import NAME as OBSERVER
from tests.support.cli import BOTH, SAGA, UNKNOWN_ID, alive, eventually, starting, up

pytestmark = [pytest.mark.real, pytest.mark.usefixtures("removed")]


@BOTH
def test_commands_agree_about_an_order(mode: Mode, env: dict[str, str], tmp_path: Path) -> None:
    with up(mode, env, tmp_path / "log") as running:
        assert running.saga("stock", "set", "book", "5")["stock"] == [{"sku": "book", "received": 5, "available": 5, "held": 0}]
        placed = running.saga("order", "place", "book=2", "--wait")
        assert (placed["state"], placed["reason"]) == ("COMPLETED", None)
        shown = running.saga("order", "show", placed["order_id"])
        assert shown == placed | {
            "held": {"stock": {"book": 2}, "payment": "AUTHORIZED", "delivery": "SCHEDULED"},
            "remains": [],
        }
        refused = running.saga("order", "place", "book", "--fail", "delivery:undeliverable", "--wait")
        assert (refused["state"], refused["reason"]) == ("REJECTED", "undeliverable")
        assert running.saga("order", "show", refused["order_id"])["held"] == {}
        assert running.saga("order", "withdraw", placed["order_id"], "--wait") == placed
        assert {order["order_id"] for order in running.saga("order", "list")["orders"]} == {
            placed["order_id"],
            refused["order_id"],
        }
        assert running.saga("stock", "show")["stock"] == [{"sku": "book", "received": 5, "available": 3, "held": 2}]
        assert running.saga("audit") == {"mode": mode, "ok": True, "open": 0, "findings": []}
        assert all(event["mode"] == mode and event["service"] and event["event"] for event in running.events())
        of_refused = [event for event in running.events() if event.get("order_id") == refused["order_id"]]
        assert {event["service"] for event in of_refused} == set(roles(mode))
        assert all(
            event["mode"] == mode and event["message_id"] and event["type"] for event in of_refused if event["event"] == "handled"
        )


@BOTH
def test_worker_killed_during_a_storm_is_restarted_and_no_order_is_lost(mode: Mode, env: dict[str, str], tmp_path: Path) -> None:
    env |= {
        "SAGA_AUTHORIZE_TIMEOUT_S": "30",
        "SAGA_DEADLINE_S": "60",
    }  # so that a restart of a worker does not count as a timeout
    with up(mode, env, tmp_path / "log") as running:
        storm = subprocess.Popen(
            [*SAGA, "storm", "--mode", mode, "--orders", "400", "--in-flight", "60", "--fail", "payment:declined=20%", "--json"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=env,
        )
        for victim in ("inventory", "payment"):
            handled = len(running.events())
            eventually(lambda handled=handled: len(running.events()) > handled + 200, "the storm to be in progress")  # type: ignore[misc]
            os.kill(running.children()[victim], signal.SIGKILL)
        out, err = storm.communicate(timeout=90)
        assert storm.returncode == 0, err
        report = json.loads(out)
        assert (report["ended"], report["unfinished"]) == (400, 0)
        assert report["injected"] == report["observed"]
        assert report["rejected"] == {"payment_declined": report["injected"]["payment:declined"]}
        assert report["completed"] == 400 - report["injected"]["payment:declined"]
        assert report["audit"] == {"ok": True, "findings": []}
        restarted = [event["worker"] for event in running.events() if event["event"] == "worker_restarted"]
        assert sorted(restarted) == ["inventory", "payment"]


@BOTH
def test_order_completes_after_an_injected_crash_of_a_worker(mode: Mode, env: dict[str, str], tmp_path: Path) -> None:
    with up(mode, env, tmp_path / "log") as running:
        running.saga("stock", "set", "book", "5")
        placed = running.saga("order", "place", "book", "--fail", "inventory:crash", "--wait")
        assert placed["state"] == "COMPLETED"
        assert [event["exit_code"] for event in running.events() if event["event"] == "worker_restarted"] == [-signal.SIGKILL]


def test_failure_is_refused_when_workers_have_faults_disabled(env: dict[str, str], tmp_path: Path) -> None:
    with up(Mode.CHOREOGRAPHY, env, tmp_path / "log", "--no-faults") as running:
        result = running.run("order", "place", "book", "--fail", "payment:declined", "--mode", "choreography")
        assert result.returncode == 2
        assert "faults disabled" in result.stderr


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_signal_shuts_down_every_process(number: signal.Signals, code: int, env: dict[str, str], tmp_path: Path) -> None:
    with up(Mode.CHOREOGRAPHY, env, tmp_path / "log") as running:
        children = running.children()
        assert set(children) == {"gateway", OBSERVER, *roles(Mode.CHOREOGRAPHY)}
        running.process.send_signal(number)
        assert running.process.wait(12) == code
        assert [name for name, pid in children.items() if alive(pid)] == []
        assert "Traceback" not in running.log.read_text()


def test_workers_end_when_their_supervisor_is_killed(env: dict[str, str], tmp_path: Path) -> None:
    with up(Mode.CHOREOGRAPHY, env, tmp_path / "log") as running:
        children = running.children()
        running.process.kill()
        running.process.wait(5)
        eventually(lambda: not any(map(alive, children.values())), "the children to end", 15)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_signal_ends_a_start_that_waits_for_a_silent_broker(
    number: signal.Signals, code: int, env: dict[str, str], tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(30)
        env["SAGA_BROKER_URL"] = f"amqp://guest:guest@127.0.0.1:{silent.getsockname()[1]}/"
        with starting(Mode.CHOREOGRAPHY, env, tmp_path / "log") as running:
            caller, _ = silent.accept()
            with caller:
                running.process.send_signal(number)
                assert running.process.wait(5) == code
        assert "Traceback" not in running.log.read_text()


def test_output_of_workers_is_forwarded_during_shutdown(env: dict[str, str], tmp_path: Path) -> None:
    with up(Mode.CHOREOGRAPHY, env, tmp_path / "log") as running:
        running.process.terminate()
        assert running.process.wait(12) == 0
        ended = {event["service"] for event in running.events() if event["event"] == "stopped"}
        assert ended == {OBSERVER, *roles(Mode.CHOREOGRAPHY)}


def test_two_modes_share_a_gateway_and_one_takes_over_from_the_other(env: dict[str, str], tmp_path: Path) -> None:
    with (
        starting(Mode.ORCHESTRATOR, env, tmp_path / "one") as one,
        starting(Mode.CHOREOGRAPHY, env, tmp_path / "two") as two,
    ):
        one.until_ready()
        two.until_ready()
        eventually(
            lambda: one.has_logged("gateway_shared") != two.has_logged("gateway_shared"),
            "one of them to share the other's gateway",
        )
        owner, guest = (two, one) if one.has_logged("gateway_shared") else (one, two)
        for running in (owner, guest):
            running.saga("reset", "--yes")
            running.saga("stock", "set", "book", "5")
            assert running.saga("order", "place", "book", "--wait")["state"] == "COMPLETED"
        owner.process.terminate()
        assert owner.process.wait(12) == 0
        eventually(lambda: "gateway" in guest.children(), "the guest to run a gateway of its own")
        assert guest.saga("order", "place", "book", "--wait", "--timeout", "20")["state"] == "COMPLETED"
        assert guest.saga("audit") == {"mode": guest.mode, "ok": True, "open": 0, "findings": []}


def test_gateway_without_faults_is_not_shared_by_a_mode_with_faults(env: dict[str, str], tmp_path: Path) -> None:
    with up(Mode.ORCHESTRATOR, env, tmp_path / "log", "--no-faults") as running:
        result = running.run("up", "--mode", "choreography")
        assert result.returncode == 2
        assert "has faults disabled" in result.stderr


def test_dead_letter_is_listed_shown_and_requeued(env: dict[str, str], tmp_path: Path) -> None:
    env |= {"SAGA_DEADLINE_S": "300"}  # longer than the retries
    with up(Mode.CHOREOGRAPHY, env, tmp_path / "log") as running:
        running.saga("stock", "set", "book", "5")
        order_id = running.saga("order", "place", "book", "--fail", "delivery:error")["order_id"]
        eventually(lambda: running.saga("dlq", "list")["dead_letters"], "the step to be dead-lettered", 20)
        (letter,) = running.saga("dlq", "list")["dead_letters"]
        assert (letter["worker"], letter["order_id"], letter["reason"]) == ("delivery", order_id, "attempts_exhausted")
        assert letter["attempts"] == 5
        whole = running.saga("dlq", "show", letter["id"])
        assert json.loads(whole["body"])["order_id"] == order_id
        assert running.run("dlq", "requeue", UNKNOWN_ID, "-m", running.mode).returncode == 1
        assert running.run("dlq", "discard", letter["id"], "-m", running.mode).returncode == 2
        assert [sent["id"] for sent in running.saga("dlq", "requeue", letter["id"])["requeued"]] == [letter["id"]]
        eventually(lambda: running.saga("order", "show", order_id)["state"] == "COMPLETED", "the order to complete")
        assert running.saga("dlq", "list") == {"dead_letters": []}
        assert running.run("order", "redrive", order_id, "-m", running.mode).returncode == 0
