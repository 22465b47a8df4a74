"""A chaos run finds the effects of a bug that is planted in every worker. On real servers."""

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bootstrap.modes import Mode, roles
from cli.supervisor import SupervisedProcess
from lab.chaos.nemesis import ManagedProcess
from lab.chaos.run import ChaosPlan, ChaosReport, ChaosRun
from lab.chaos.schedule import BROKER, ChaosFault, ChaosFaultKind
from lab.chaos.servers import ProcessSpec

pytestmark = [pytest.mark.real, pytest.mark.usefixtures("installed")]

SEED, SECONDS, RATE = 25, 22.0, 15.0


def run_with(bug: str, home: Path) -> ChaosReport:
    """A run in which each worker has the bug."""
    mode = Mode.ORCHESTRATOR

    def spawn(spec: ProcessSpec, on_line: Callable[[str, bytes], None]) -> ManagedProcess:
        command = list(spec.command)
        if spec.name in roles(mode):
            assert command[:3] == [sys.executable, "-m", "cli"]
            command[2:3] = ["tests.support.programs.buggy_worker", bug]
        return SupervisedProcess(spec.name, command, lambda child, line: on_line(child.name, line), env=spec.env)

    return asyncio.run(ChaosRun(ChaosPlan(mode, SECONDS, SEED, RATE), home, spawn).run())


def test_without_an_inbox_effects_are_doubled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cuts = [
        ChaosFault(1.0 + number / 2, ChaosFaultKind.CUT, BROKER) for number in range(40)
    ]  # at most of them a message is unacknowledged
    monkeypatch.setattr("lab.chaos.run.draw_faults", lambda *_: cuts)
    report = run_with("no inbox", tmp_path)
    assert not report.ok
    assert any("committed" in sentence or "answered" in sentence for sentence in report.verdict.doubled)


def test_a_worker_that_acknowledges_before_its_commit_loses_orders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kills = [
        ChaosFault(at_s, ChaosFaultKind.KILL, "order") for at_s in (3.0, 7.0, 11.0, 15.0)
    ]  # while it works, because no other fault is injected
    monkeypatch.setattr("lab.chaos.run.draw_faults", lambda *_: kills)
    monkeypatch.setattr("lab.chaos.run.DRAIN_TIMEOUT_S", 15.0)  # a lost order never arrives, so there is no need to wait longer
    report = run_with("acknowledges first", tmp_path)
    assert not report.ok
    assert report.verdict.lost
