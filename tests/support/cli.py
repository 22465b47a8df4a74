"""Commands of the CLI, run in this process or in their own, and a running `saga up`."""

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
#: An id that nothing has.
NOBODY = "0190a0a0-0000-7000-8000-000000000000"
#: Runs a test once in each mode.
BOTH = pytest.mark.parametrize("mode", list(Mode))


@dataclass
class Up:
    """A running `saga up`, its environment, and the file its lines go to."""

    mode: Mode
    env: dict[str, str]
    process: subprocess.Popen[bytes]
    log: Path

    def saga(self, *words: str, code: int = 0) -> Any:
        """Run a command with --json; gives its document."""
        said = self.run(*words, "--mode", self.mode, "--json")
        assert said.returncode == code, f"{words}: exit {said.returncode}: {said.stderr}"
        return json.loads(said.stdout) if said.stdout else None

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*SAGA, *words], capture_output=True, text=True, timeout=90, env=self.env, check=False)

    def until_ready(self) -> None:
        eventually(lambda: self.said("ready") or self.process.poll() is not None, "saga up to be ready")
        assert self.process.poll() is None, self.log.read_text()

    def events(self) -> list[dict[str, Any]]:
        """What it has said so far; the last line may still be on its way."""
        return [json.loads(line) for line in self.log.read_text().splitlines(keepends=True) if line.endswith("\n")]

    def said(self, name: str) -> bool:
        return any(event["event"] == name for event in self.events())

    def children(self) -> dict[str, int]:
        """Worker name -> pid."""
        found = {}
        for pid in Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split():
            with suppress(FileNotFoundError, ProcessLookupError):  # it may go while it is looked at
                words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
                if "worker" in words:  # not one that was forked and has not yet begun
                    found[words[words.index("worker") + 1]] = int(pid)
        return found


def eventually(condition: Callable[[], bool], what: str, authorize_timeout_s: float = 30.0) -> None:
    deadline = time.monotonic() + authorize_timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"waited {authorize_timeout_s} s for {what}"
        time.sleep(0.05)


def alive(pid: int) -> bool:
    """Whether the process runs; one that has ended and was not yet waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):  # the latter when it goes while it is read
        return False


@contextmanager
def up(mode: Mode, env: dict[str, str], log: Path, *flags: str) -> Iterator[Up]:
    """`saga up`, ready; ended (if the test has not) and removed at the end."""
    with begun(mode, env, log, *flags) as running:
        running.until_ready()
        running.saga("reset", "--yes")
        yield running


@contextmanager
def begun(mode: Mode, env: dict[str, str], log: Path, *flags: str) -> Iterator[Up]:
    """`saga up`, just started."""
    with log.open("wb") as out:
        process = subprocess.Popen([*SAGA, "up", "--mode", mode, *flags], stdout=out, stderr=out, env=env)
    try:
        yield Up(mode, env, process, log)
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(20)


def typed(*words: str, **env: str) -> Any:
    """A command in this process: starting a Python for each would take most of the time."""
    return CliRunner().invoke(app, words, env=NOWHERE | {"COLUMNS": "110"} | env)
