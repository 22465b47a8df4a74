"""Runs commands of the CLI, in this process or in one of their own, and `saga up`."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from bootstrap.modes import Mode
from cli.app import app

#: Ports of this machine where nothing listens.
NOWHERE = {
    "SAGA_BROKER_URL": "amqp://guest:guest@127.0.0.1:9/",
    "SAGA_STORE_URL": "mongodb://127.0.0.1:9/?serverSelectionTimeoutMS=300",
    "SAGA_GATEWAY_URL": "http://127.0.0.1:9",
    "PATH": "/usr/bin:/bin",
}

#: The CLI as a process of its own.
SAGA = [sys.executable, "-m", "cli"]
#: An id that no order and no dead letter has.
UNKNOWN_ID = "0190a0a0-0000-7000-8000-000000000000"
#: Runs a test once in each mode.
BOTH = pytest.mark.parametrize("mode", list(Mode))


@dataclass
class RunningMode:
    """A running `saga up`, with its environment and the file of its output."""

    mode: Mode
    env: dict[str, str]
    process: subprocess.Popen[bytes]
    log: Path

    def saga(self, *words: str, code: int = 0) -> Any:
        """Run a command with --json; returns its document."""
        result = self.run(*words, "--mode", self.mode, "--json")
        assert result.returncode == code, f"{words}: exit {result.returncode}: {result.stderr}"
        return json.loads(result.stdout) if result.stdout else None

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*SAGA, *words], capture_output=True, text=True, timeout=90, env=self.env, check=False)

    def until_ready(self) -> None:
        eventually(lambda: self.has_logged("ready") or self.process.poll() is not None, "saga up to be ready")
        assert self.process.poll() is None, self.log.read_text()

    def events(self) -> list[dict[str, Any]]:
        """The events logged so far; an incomplete last line is left out."""
        return [json.loads(line) for line in self.log.read_text().splitlines(keepends=True) if line.endswith("\n")]

    def has_logged(self, name: str) -> bool:
        return any(event["event"] == name for event in self.events())

    def children(self) -> dict[str, int]:
        """Worker name -> pid."""
        found = {}
        for pid in Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split():
            with suppress(FileNotFoundError, ProcessLookupError):  # the process may end meanwhile
                words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
                if "worker" in words:  # not a forked process that has not executed the command yet
                    found[words[words.index("worker") + 1]] = int(pid)
        return found


def eventually(condition: Callable[[], bool], what: str, timeout_s: float = 30.0) -> None:
    """Wait until the condition holds. Fails after `timeout_s` and says what it waited for."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"waited {timeout_s} s for {what}"
        time.sleep(0.05)


def alive(pid: int) -> bool:
    """Whether the process runs. A zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):  # the latter when it ends while its file is read
        return False


@contextmanager
def up(mode: Mode, env: dict[str, str], log: Path, *flags: str) -> Iterator[RunningMode]:
    """Run `saga up` until it is ready, with empty queues and databases; stop it at the end."""
    with starting(mode, env, log, *flags) as running:
        running.until_ready()
        running.saga("reset", "--yes")
        yield running


@contextmanager
def starting(mode: Mode, env: dict[str, str], log: Path, *flags: str) -> Iterator[RunningMode]:
    """Start `saga up` without waiting for it; stop it at the end."""
    with log.open("wb") as out:
        process = subprocess.Popen([*SAGA, "up", "--mode", mode, *flags], stdout=out, stderr=out, env=env)
    try:
        yield RunningMode(mode, env, process, log)
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(20)


def invoke(*words: str, **env: str) -> Any:
    """Run a command in this process, because to start an interpreter for each would take most of the time."""
    return CliRunner().invoke(app, words, env=NOWHERE | {"COLUMNS": "110"} | env)
