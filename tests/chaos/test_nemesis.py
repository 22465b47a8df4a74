"""Faults happen to real processes and are counted as observed only if they were seen to act."""

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
    """A process that does nothing, kept running."""
    kept = SupervisedProcess(WORKER, ["sleep", "60"], lambda _, __: None)
    kept.start()
    await until(lambda: kept.pid is not None, "the process to start")
    yield kept
    kept.send(signal.SIGCONT)
    await kept.terminate(0.0)


async def test_a_kill_is_observed_when_the_process_is_gone_and_another_takes_its_place(child: SupervisedProcess) -> None:
    nemesis = Nemesis({WORKER: child}, {})
    first = child.pid
    await nemesis.inject(ChaosFault(0, ChaosFaultKind.KILL, WORKER))
    assert (nemesis.injected, nemesis.observed) == ({"kill worker": 1}, {"kill worker": 1})
    await until(lambda: child.pid not in (None, first), "its successor")
    assert first is not None
    assert process_state(first) == ""


async def test_a_kill_also_ends_the_worker_behind_a_wrapper_that_only_waits_for_it() -> None:
    heard: list[bytes] = []
    # As faketime does it: the worker is a child of the process that was started, and holds its output.
    wrapped = SupervisedProcess(WORKER, ["sh", "-c", "sleep 60 & echo $!; wait"], lambda _, line: heard.append(line))
    wrapped.start()
    await until(lambda: bool(heard), "the worker to start")
    async with asyncio.timeout(10):
        await Nemesis({WORKER: wrapped}, {}).inject(ChaosFault(0, ChaosFaultKind.KILL, WORKER))
    assert process_state(int(heard[0])) in ("", "Z")
    await wrapped.terminate(0.0)


async def test_a_frozen_process_stands_still_for_as_long_as_was_said_and_goes_on(child: SupervisedProcess) -> None:
    nemesis = Nemesis({WORKER: child}, {})
    pid = child.pid
    assert pid is not None
    strike = asyncio.create_task(nemesis.inject(ChaosFault(0, ChaosFaultKind.FREEZE, WORKER, 0.2)))
    await until(lambda: process_state(pid) == "T", "the process to stop")
    assert not strike.done()
    await strike
    await until(lambda: process_state(pid) == "S", "the process to go on")
    assert nemesis.observed == {"freeze worker": 1}


async def test_a_freeze_that_is_interrupted_is_undone(child: SupervisedProcess) -> None:
    nemesis = Nemesis({WORKER: child}, {})
    pid = child.pid
    assert pid is not None
    running = asyncio.create_task(nemesis.run([ChaosFault(0, ChaosFaultKind.FREEZE, WORKER, 60)]))
    await until(lambda: process_state(pid) == "T", "the process to stop")
    running.cancel()
    await asyncio.wait([running])
    await until(lambda: process_state(pid) == "S", "the process to go on")


async def test_what_is_not_there_is_not_struck_and_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lab.chaos.nemesis.RESTART_TIMEOUT_S", 0.05)
    nemesis = Nemesis({WORKER: SupervisedProcess(WORKER, ["sleep", "60"], lambda _, __: None)}, {})
    await nemesis.inject(ChaosFault(0, ChaosFaultKind.KILL, WORKER))
    await nemesis.inject(ChaosFault(0, ChaosFaultKind.FREEZE, WORKER, 1))
    assert not nemesis.injected


@pytest.mark.parametrize("kind", [ChaosFaultKind.CUT, ChaosFaultKind.BLACK_HOLE, ChaosFaultKind.DELAY])
async def test_a_fault_of_a_link_that_nobody_uses_is_injected_and_not_observed(kind: ChaosFaultKind) -> None:
    async with TcpProxy(9) as proxy:
        nemesis = Nemesis({}, {"broker": proxy})
        await nemesis.inject(ChaosFault(0, kind, "broker", 0.01))
        assert (nemesis.injected, nemesis.observed) == ({f"{kind} broker": 1}, {f"{kind} broker": 0})
        assert (proxy.dropping, proxy.delay_s) == (False, 0)


async def test_faults_happen_at_their_times_and_the_last_is_over_when_the_run_returns() -> None:
    loop = asyncio.get_running_loop()
    async with TcpProxy(9) as proxy:
        nemesis = Nemesis({}, {"broker": proxy})
        began = loop.time()
        await nemesis.run(
            [ChaosFault(0.1, ChaosFaultKind.CUT, "broker"), ChaosFault(0.2, ChaosFaultKind.BLACK_HOLE, "broker", 0.1)]
        )
        assert loop.time() - began >= 0.3
        assert nemesis.injected == {"cut broker": 1, "black hole broker": 1}


async def test_a_full_disk_has_no_room_until_the_fault_is_over(tmp_path: Path) -> None:
    async with small_disk(tmp_path / "disk") as why_not:
        if why_not:
            pytest.skip(why_not)
        disk = tmp_path / "disk"
        nemesis = Nemesis({}, {}, {"gateway": disk})
        strike = asyncio.create_task(nemesis.inject(ChaosFault(0, ChaosFaultKind.FULL_DISK, "gateway", 0.5)))

        await until(lambda: os.statvfs(disk).f_bavail == 0, "the disk to be full")
        with pytest.raises(OSError, match="No space"):
            (disk / "books").write_bytes(b"a word")
        await strike
        assert nemesis.observed == {"full disk gateway": 1}
        assert (disk / "books").write_bytes(b"a word") == 6
        assert os.statvfs(disk).f_blocks * os.statvfs(disk).f_frsize == SIZE_MB << 20
