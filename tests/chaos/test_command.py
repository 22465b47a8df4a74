"""`saga chaos` as a user types it, on servers that it starts itself.

A run of half a minute a mode; the release run is ten minutes and more (docs/proof.md).
"""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from bootstrap.modes import Mode
from cli.app import app

SAGA = [sys.executable, "-m", "cli"]


@dataclass(frozen=True)
class Storm:
    """`saga chaos` in its own process, and the files that it writes."""

    process: "subprocess.Popen[bytes]"
    said: Path
    trouble: Path

    def ended(self) -> "subprocess.CompletedProcess[str]":
        code = self.process.wait(110)
        return subprocess.CompletedProcess(self.process.args, code, self.said.read_text(), self.trouble.read_text())


@pytest.fixture(scope="module")
def storms(installed: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[Mode, Storm]]:
    """One storm in each mode, both at once: each has servers of its own, and waits for most of the time."""
    home = tmp_path_factory.mktemp("storms")
    with ExitStack() as stack:
        yield {mode: stack.enter_context(storm(mode, home)) for mode in Mode}


@contextmanager
def storm(mode: Mode, home: Path) -> Iterator[Storm]:
    command = [*SAGA, "chaos", "--mode", mode, "--for", "30", "--seed", "3", "--rate", "15", "--json"]
    said, trouble = home / f"{mode}.json", home / f"{mode}.log"
    with said.open("wb") as out, trouble.open("wb") as err, subprocess.Popen(command, stdout=out, stderr=err) as process:
        try:
            yield Storm(process, said, trouble)
        finally:
            process.terminate()


@pytest.mark.real
@pytest.mark.parametrize("mode", list(Mode))
def test_a_storm_under_faults_loses_doubles_and_leaves_nothing(mode: Mode, storms: dict[Mode, Storm]) -> None:
    said = storms[mode].ended()
    assert said.stdout, said.stderr
    report = json.loads(said.stdout)
    told = {name: report[name] for name in ("lost", "doubled", "stuck", "audit", "findings", "vacuous")}
    assert said.returncode == 0, (told, said.stderr)
    assert (report["lost"], report["doubled"], report["stuck"], report["audit"]["ok"]) == (0, 0, 0, True)
    assert report["orders"] == report["completed"] + sum(report["rejected"].values()) == 15 * 30
    assert {"kill broker", "kill database"} <= report["injected"].keys()
    assert sum(report["observed"].values()) >= 15
    assert report["worker_restarts"] >= 3


@pytest.mark.real
@pytest.mark.usefixtures("installed")
def test_ctrl_c_ends_everything_that_was_started(tmp_path: Path) -> None:
    home = tmp_path / "kept"
    command = [*SAGA, "chaos", "--for", "60", "--keep", str(home)]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=with_ctrl_c,  # noqa: PLW1509 - no thread of this process holds a lock that it needs
    ) as process:
        try:
            eventually(lambda: (home / "log" / "order.log").exists() or process.poll() is not None, "the workers to start")
            started = descendants(process.pid)
            assert len(started) >= 4
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=40)
        finally:
            process.kill()
    assert process.returncode == 130, said
    assert "interrupted" in said
    eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in started), "every process to be gone")


def with_ctrl_c() -> None:
    """What a shell runs in its background, tests perhaps, ignores Ctrl-C, and so would what they start."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def descendants(pid: int) -> set[int]:
    """Children of a process, and theirs."""
    listing = subprocess.run(["ps", "-e", "-o", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    pairs = [tuple(map(int, line.split())) for line in listing.splitlines()]
    found, fresh = set[int](), {pid}
    while fresh:
        fresh = {child for child, parent in pairs if parent in fresh} - found
        found |= fresh
    return found


def eventually(condition: Any, what: str, timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"waited {timeout_s} s in vain for {what}"
        time.sleep(0.05)


@pytest.mark.parametrize("missing", ["rabbitmq-server", "secantusd-rs"])
def test_without_one_of_the_servers_it_says_which_and_exits_4(
    missing: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if missing == "secantusd-rs":
        monkeypatch.setattr("lab.chaos.servers.rabbitmq_server", lambda: "rabbitmq-server")
    monkeypatch.setattr("lab.chaos.servers.sysconfig.get_path", lambda _: str(tmp_path))
    said = CliRunner().invoke(app, ["chaos"], env={"PATH": str(tmp_path)})
    assert said.exit_code == 4
    assert f"{missing} is not installed" in said.stderr
    assert said.stdout == ""


def test_a_folder_that_is_there_is_not_written_into(tmp_path: Path) -> None:
    said = CliRunner().invoke(app, ["chaos", "--keep", str(tmp_path)])
    assert said.exit_code == 2
    assert "new folder" in said.stderr


def test_a_skewed_clock_without_faketime_is_said_and_with_it_one_worker_has_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from cli.commands.chaos import _choose_skew  # noqa: PLC0415 - the one look inside

    monkeypatch.setenv("PATH", str(tmp_path))
    assert _choose_skew(Mode.CHOREOGRAPHY, 1) == ({}, "no skewed clock: faketime is not installed")
    program = tmp_path / "faketime"
    program.touch(mode=0o755)
    skewed, said = _choose_skew(Mode.CHOREOGRAPHY, 1)
    ((worker, words),) = skewed.items()
    assert words[:2] == [str(program), "-f"]
    assert worker in said
    assert _choose_skew(Mode.CHOREOGRAPHY, 1) == (skewed, said)
