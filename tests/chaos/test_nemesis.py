"""Faults are injected into real processes and counted as observed only if they took effect."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cli.supervisor import SupervisedProcess
from lab.chaos.disks import SIZE_MB, small_disk
from lab.chaos.nemesis import Nemesis
from lab.chaos.schedule import ChaosFault, ChaosFaultKind
from lab.chaos.servers import process_state
from lab.chaos.tcp_proxy import TcpProxy
from tests.support.wait import until

WORKER = "worker"


@pytest.fixture
async def child() -> AsyncIterator[SupervisedProcess]:
    """A supervised process that does nothing."""
    kept = SupervisedProcess(WORKER, ["sleep", "60"], lambda _, __: None)
    kept.start()
    await until(lambda: kept.pid is not None, "the process to start")
    yield kept
    kept.send(signal.SIGCONT)
    await kept.terminate(0.0)


async def test_a_kill_is_observed_and_the_process_is_restarted(child: SupervisedProcess) -> None:
    nemesis = Nemesis({WORKER: child}, {})
    first = child.pid
    await nemesis.inject(ChaosFault(0, ChaosFaultKind.KILL, WORKER))
    assert (nemesis.injected, nemesis.observed) == ({"kill worker": 1}, {"kill worker": 1})
    await until(lambda: child.pid not in (None, first), "its successor")
    assert first is not None
    assert process_state(first) == ""


async def test_a_kill_also_ends_a_worker_behind_a_wrapper() -> None:
    lines: list[bytes] = []
    # Like faketime: the worker is a child of the process that was started, and inherits its output.
    wrapped = SupervisedProcess(WORKER, ["sh", "-c", "sleep 60 & echo $!; wait"], lambda _, line: lines.append(line))
    wrapped.start()
    await until(lambda: bool(lines), "the worker to start")
    async with asyncio.timeout(10):
        await Nemesis({WORKER: wrapped}, {}).inject(ChaosFault(0, ChaosFaultKind.KILL, WORKER))
    assert process_state(int(lines[0])) in ("", "Z")
    await wrapped.terminate(0.0)


async def test_a_frozen_process_stops_for_the_duration_and_continues(child: SupervisedProcess) -> None:
    nemesis = Nemesis({WORKER: child}, {})
    pid = child.pid
    assert pid is not None
    fault_task = asyncio.create_task(nemesis.inject(ChaosFault(0, ChaosFaultKind.FREEZE, WORKER, 0.2)))
    await until(lambda: process_state(pid) == "T", "the process to stop")
    assert not fault_task.done()
    await fault_task
    await until(lambda: process_state(pid) == "S", "the process to continue")
    assert nemesis.observed == {"freeze worker": 1}


async def test_a_cancelled_freeze_is_undone(child: SupervisedProcess) -> None:
    nemesis = Nemesis({WORKER: child}, {})
    pid = child.pid
    assert pid is not None
    running = asyncio.create_task(nemesis.run([ChaosFault(0, ChaosFaultKind.FREEZE, WORKER, 60)]))
    await until(lambda: process_state(pid) == "T", "the process to stop")
    running.cancel()
    await asyncio.wait([running])
    await until(lambda: process_state(pid) == "S", "the process to continue")


async def test_a_fault_of_a_missing_process_is_skipped_and_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lab.chaos.nemesis.RESTART_TIMEOUT_S", 0.05)
    nemesis = Nemesis({WORKER: SupervisedProcess(WORKER, ["sleep", "60"], lambda _, __: None)}, {})
    await nemesis.inject(ChaosFault(0, ChaosFaultKind.KILL, WORKER))
    await nemesis.inject(ChaosFault(0, ChaosFaultKind.FREEZE, WORKER, 1))
    assert not nemesis.injected


@pytest.mark.parametrize("kind", [ChaosFaultKind.CUT, ChaosFaultKind.BLACK_HOLE, ChaosFaultKind.DELAY])
async def test_a_fault_of_an_unused_link_is_injected_and_not_observed(kind: ChaosFaultKind) -> None:
    async with TcpProxy(9) as proxy:
        nemesis = Nemesis({}, {"broker": proxy})
        await nemesis.inject(ChaosFault(0, kind, "broker", 0.01))
        assert (nemesis.injected, nemesis.observed) == ({f"{kind} broker": 1}, {f"{kind} broker": 0})
        assert (proxy.dropping, proxy.delay_s) == (False, 0)


async def test_faults_happen_on_time_and_are_over_when_the_run_returns() -> None:
    loop = asyncio.get_running_loop()
    async with TcpProxy(9) as proxy:
        nemesis = Nemesis({}, {"broker": proxy})
        started_at = loop.time()
        await nemesis.run(
            [ChaosFault(0.1, ChaosFaultKind.CUT, "broker"), ChaosFault(0.2, ChaosFaultKind.BLACK_HOLE, "broker", 0.1)]
        )
        assert loop.time() - started_at >= 0.3
        assert nemesis.injected == {"cut broker": 1, "black hole broker": 1}


async def test_a_full_disk_has_no_space_until_the_fault_is_over(tmp_path: Path) -> None:
    async with small_disk(tmp_path / "disk") as reason:
        if reason:
            pytest.skip(reason)
        disk = tmp_path / "disk"
        nemesis = Nemesis({}, {}, {"gateway": disk})
        fault_task = asyncio.create_task(nemesis.inject(ChaosFault(0, ChaosFaultKind.FULL_DISK, "gateway", 0.5)))

        await until(lambda: os.statvfs(disk).f_bavail == 0, "the disk to be full")
        with pytest.raises(OSError, match="No space"):
            (disk / "books").write_bytes(b"data")
        await fault_task
        assert nemesis.observed == {"full disk gateway": 1}
        assert (disk / "books").write_bytes(b"data") == 4
        assert os.statvfs(disk).f_blocks * os.statvfs(disk).f_frsize == SIZE_MB << 20
