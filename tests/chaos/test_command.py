"""`saga chaos` as a command, on servers that it starts itself.

A run of half a minute for each mode. The release run takes ten minutes and more (docs/proof.md).
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
class ChaosProcess:
    """`saga chaos` in its own process, and the files with its output."""

    process: "subprocess.Popen[bytes]"
    stdout: Path
    stderr: Path

    def ended(self) -> "subprocess.CompletedProcess[str]":
        code = self.process.wait(110)
        return subprocess.CompletedProcess(self.process.args, code, self.stdout.read_text(), self.stderr.read_text())


@pytest.fixture(scope="module")
def runs(installed: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[Mode, ChaosProcess]]:
    """One run in each mode, both in parallel: each has servers of its own and mostly waits."""
    home = tmp_path_factory.mktemp("chaos")
    with ExitStack() as stack:
        yield {mode: stack.enter_context(chaos_process(mode, home)) for mode in Mode}


@contextmanager
def chaos_process(mode: Mode, home: Path) -> Iterator[ChaosProcess]:
    command = [*SAGA, "chaos", "--mode", mode, "--for", "30", "--seed", "3", "--rate", "15", "--json"]
    stdout, stderr = home / f"{mode}.json", home / f"{mode}.log"
    with stdout.open("wb") as out, stderr.open("wb") as err, subprocess.Popen(command, stdout=out, stderr=err) as process:
        try:
            yield ChaosProcess(process, stdout, stderr)
        finally:
            process.terminate()


@pytest.mark.real
@pytest.mark.parametrize("mode", list(Mode))
def test_a_run_with_faults_has_nothing_lost_doubled_or_stuck(mode: Mode, runs: dict[Mode, ChaosProcess]) -> None:
    result = runs[mode].ended()
    assert result.stdout, result.stderr
    report = json.loads(result.stdout)
    findings = {name: report[name] for name in ("lost", "doubled", "stuck", "audit", "findings", "vacuous")}
    assert result.returncode == 0, (findings, result.stderr)
    assert (report["lost"], report["doubled"], report["stuck"], report["audit"]["ok"]) == (0, 0, 0, True)
    assert report["orders"] == report["completed"] + sum(report["rejected"].values()) == 15 * 30
    assert {"kill broker", "kill database"} <= report["injected"].keys()
    assert sum(report["observed"].values()) >= 15
    assert report["worker_restarts"] >= 3


@pytest.mark.real
@pytest.mark.usefixtures("installed")
def test_ctrl_c_ends_every_process_of_the_run(tmp_path: Path) -> None:
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
            _, stderr = process.communicate(timeout=40)
        finally:
            process.kill()
    assert process.returncode == 130, stderr
    assert "interrupted" in stderr
    eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in started), "every process to be gone")


def with_ctrl_c() -> None:
    """Restore the default action of Ctrl-C: a shell's background process, which a test may be, ignores it and passes that on."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def descendants(pid: int) -> set[int]:
    """The children of a process and all their descendants."""
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
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {what}"
        time.sleep(0.05)


@pytest.mark.parametrize("missing", ["rabbitmq-server", "secantusd-rs"])
def test_a_missing_server_is_named_with_exit_code_4(missing: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    if missing == "secantusd-rs":
        monkeypatch.setattr("lab.chaos.servers.rabbitmq_server", lambda: "rabbitmq-server")
    monkeypatch.setattr("lab.chaos.servers.sysconfig.get_path", lambda _: str(tmp_path))
    result = CliRunner().invoke(app, ["chaos"], env={"PATH": str(tmp_path)})
    assert result.exit_code == 4
    assert f"{missing} is not installed" in result.stderr
    assert result.stdout == ""


def test_an_existing_folder_is_refused(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["chaos", "--keep", str(tmp_path)])
    assert result.exit_code == 2
    assert "new folder" in result.stderr


def test_one_worker_has_a_skewed_clock_if_faketime_is_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from cli.commands.chaos import _choose_skew  # noqa: PLC0415 - a private function of the command

    monkeypatch.setenv("PATH", str(tmp_path))
    assert _choose_skew(Mode.CHOREOGRAPHY, 1) == ({}, "no skewed clock: faketime is not installed")
    program = tmp_path / "faketime"
    program.touch(mode=0o755)
    skewed, note = _choose_skew(Mode.CHOREOGRAPHY, 1)
    ((worker, words),) = skewed.items()
    assert words[:2] == [str(program), "-f"]
    assert worker in note
    assert _choose_skew(Mode.CHOREOGRAPHY, 1) == (skewed, note)
