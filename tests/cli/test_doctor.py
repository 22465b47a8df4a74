"""`saga doctor`: its exit codes, its JSON and its printed lines.

The result of each check is tested in tests/ops/doctor/test_all_checks.py.
"""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from yarl import URL

from bootstrap.modes import Mode, topology
from broker.rabbitmq.transport import RabbitTransport
from ops.doctor.all_checks import ALL_CHECKS
from tests.support.cli import BOTH, NOWHERE, up

NO_DOCKER = {"DOCKER_HOST": "unix:///nowhere"}
MISSING = {"broker", "database", "payment gateway"}


def doctor(env: dict[str, str], *flags: str) -> subprocess.CompletedProcess[str]:
    return saga(env, "doctor", *flags)


def saga(env: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cli", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=env | NO_DOCKER, check=False)


def document(result: subprocess.CompletedProcess[str]) -> Any:
    """The JSON on stdout, after a check of its shape."""
    found = json.loads(result.stdout)
    assert found.keys() == {"ok", "checks"}
    assert [check["name"] for check in found["checks"]] == [check.name for check in ALL_CHECKS]
    for check in found["checks"]:
        assert list(check) == ["name", "ok", "why", "next"]
        assert check["ok"] in (True, False, None)
        assert check["why"]
        assert check["ok"] is not False or check["next"]
    assert found["ok"] is all(check["ok"] is not False for check in found["checks"])
    return found


def failed(found: Any) -> set[str]:
    """The failed checks, without the one that depends on the machine that runs the tests."""
    return {check["name"] for check in found["checks"] if check["ok"] is False} - {"memory"}


def test_each_missing_server_is_one_failed_check_and_exit_code_4() -> None:
    result = doctor(NOWHERE, "--json")
    assert result.returncode == 4, result.stderr
    assert failed(document(result)) == MISSING
    assert "Traceback" not in result.stderr
    assert len([line for line in result.stderr.splitlines() if line.startswith("saga: ")]) == 1


def test_text_has_a_line_per_check_and_the_next_step_below_a_failure() -> None:
    result = doctor(NOWHERE)
    assert result.returncode == 4, result.stderr
    lines = result.stdout.splitlines()
    heads = [line for line in lines if not line.startswith(" ")]
    words = {check.name: line.partition(check.name)[0].strip() for check, line in zip(ALL_CHECKS, heads, strict=True)}
    assert {name for name, word in words.items() if word == "FAILED"} - {"memory"} == MISSING
    assert words["durable commits"] == "ok"
    assert words["topology"] == "not made"
    below = lines[lines.index(next(line for line in heads if line.startswith("FAILED    broker"))) + 1 :][:2]
    assert "127.0.0.1:9" in below[0]
    assert below[1].strip().startswith("next: Start RabbitMQ")


@pytest.mark.real
@pytest.mark.usefixtures("removed")
@BOTH
def test_running_mode_passes_and_a_wrong_setting_is_exit_code_1(mode: Mode, env: dict[str, str], tmp_path: Path) -> None:
    with up(mode, env, tmp_path / "log") as running:
        result = doctor(env, "--mode", mode, "--json")
        found = document(result)
        assert {check["name"]: check["why"] for check in found["checks"] if not check["ok"] and check["name"] != "memory"} == {}
        assert result.returncode == 0, result.stderr
        unsynced = env | {"SAGA_STORE_URL": str(URL(env["SAGA_STORE_URL"]).update_query(journal="false"))}
        wrong = doctor(unsynced, "--mode", mode, "--json")
        assert failed(document(wrong)) == {"durable commits"}
        assert wrong.returncode == 1
        assert running.process.poll() is None
    after = doctor(env, "--mode", mode, "--json")
    assert failed(document(after)) == {"consumers", "payment gateway"}
    assert after.returncode == 4


@pytest.mark.real
@pytest.mark.usefixtures("removed")
async def test_reset_repairs_the_declarations_of_another_version(env: dict[str, str], rabbit_url: str, gateway_url: str) -> None:
    env |= {"SAGA_GATEWAY_URL": gateway_url}
    transport = RabbitTransport(rabbit_url, "tests")
    await transport.open()
    await transport.declare(replace(topology(Mode.CHOREOGRAPHY), delivery_limit=3))
    await transport.close()
    words = ["--mode", Mode.CHOREOGRAPHY, "--json"]
    assert failed(document(doctor(env, *words))) == {"topology", "consumers"}
    reset = saga(env, "reset", "--yes", *words)
    assert reset.returncode == 0, reset.stderr
    assert failed(document(doctor(env, *words))) == {"consumers"}
