"""Injects the faults of a schedule and observes whether each took effect.

`injected` counts the faults, `observed` those that took effect: the process ended with -9, the kernel reported it stopped,
connections were reset, bytes were dropped or delayed, the disk was full.
"""

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from lab.chaos.schedule import ChaosFault, ChaosFaultKind
from lab.chaos.servers import process_state, wait_until
from lab.chaos.tcp_proxy import TcpProxy

#: Seconds that a slow link adds to everything it carries.
LINK_DELAY_S = 0.15
#: Seconds to wait for a process that is being restarted before its fault is skipped.
RESTART_TIMEOUT_S = 5.0
#: Seconds the kernel may take to stop a process.
STOP_TIMEOUT_S = 1.0
#: Bytes written at once to fill a disk.
BLOCK_BYTES = 1 << 16


class ManagedProcess(Protocol):
    """A supervised process, restarted when it ends (`cli.supervisor.SupervisedProcess`)."""

    name: str

    @property
    def pid(self) -> int | None: ...

    def start(self) -> None: ...

    def send(self, number: signal.Signals) -> bool:
        """Send a signal. False when no process is running."""

    async def kill(self) -> int | None:
        """Send SIGKILL. Returns the exit code of the process that ended, None when none was running."""

    async def terminate(self, grace_s: float) -> None: ...


@dataclass(slots=True)
class Nemesis:
    """Injects the faults of one run. `disks`: server -> the folder of its small disk, which can be filled."""

    processes: Mapping[str, ManagedProcess]
    proxies: Mapping[str, TcpProxy]
    disks: Mapping[str, Path] = field(default_factory=dict)
    injected: Counter[str] = field(default_factory=Counter)
    observed: Counter[str] = field(default_factory=Counter)

    async def run(self, faults: Sequence[ChaosFault]) -> None:
        """Inject each fault at its time from now. Returns when the last is over. When cancelled, active faults are undone."""
        loop = asyncio.get_running_loop()
        started_at = loop.time()
        async with asyncio.TaskGroup() as running_faults:
            for fault in faults:
                await asyncio.sleep(max(0.0, started_at + fault.at_s - loop.time()))
                running_faults.create_task(self.inject(fault), name=fault.name)

    async def inject(self, fault: ChaosFault) -> None:
        """Inject one fault and wait until it is over."""
        match fault.kind:
            case ChaosFaultKind.KILL:
                await self._kill(fault)
            case ChaosFaultKind.FREEZE:
                await self._freeze(fault)
            case ChaosFaultKind.FULL_DISK:
                await self._fill(fault)
            case _:
                await self._degrade_link(fault, self.proxies[fault.target])

    def heal(self) -> None:
        """Undo every active fault."""
        for proxy in self.proxies.values():
            proxy.heal()
        for process in self.processes.values():
            process.send(signal.SIGCONT)

    async def _kill(self, fault: ChaosFault) -> None:
        process = self.processes[fault.target]
        if not await self._is_running(process):
            return
        code = await process.kill()
        if code is not None:
            self._count(fault, took_effect=code == -signal.SIGKILL)

    async def _freeze(self, fault: ChaosFault) -> None:
        process = self.processes[fault.target]
        if not await self._is_running(process):
            return
        pid = process.pid
        try:
            if pid is None or not process.send(signal.SIGSTOP):
                return
            self._count(fault, took_effect=await _wait_until_stopped(pid))
            await asyncio.sleep(fault.for_s)
        finally:
            process.send(signal.SIGCONT)

    async def _degrade_link(self, fault: ChaosFault, proxy: TcpProxy) -> None:
        if fault.kind is ChaosFaultKind.CUT:
            self._count(fault, took_effect=proxy.cut() > 0)
            return
        before = proxy.dropped_bytes, proxy.delayed_chunks
        try:
            if fault.kind is ChaosFaultKind.BLACK_HOLE:
                proxy.drop_data()
            else:
                proxy.delay_data(LINK_DELAY_S)
            await asyncio.sleep(fault.for_s)
        finally:
            proxy.heal()
        self._count(fault, took_effect=(proxy.dropped_bytes, proxy.delayed_chunks) != before)

    async def _fill(self, fault: ChaosFault) -> None:
        ballast = self.disks[fault.target] / "ballast"
        try:
            is_full = await asyncio.to_thread(_fill_up, ballast)
            await asyncio.sleep(fault.for_s)
            # Take up what the server has freed meanwhile, such as a truncated log.
            is_full = await asyncio.to_thread(_fill_up, ballast) or is_full
            self._count(fault, took_effect=is_full)
        finally:
            ballast.unlink(missing_ok=True)

    async def _is_running(self, process: ManagedProcess) -> bool:
        """Whether the process is running, or is within RESTART_TIMEOUT_S."""
        return await wait_until(lambda: process.pid is not None, RESTART_TIMEOUT_S)

    def _count(self, fault: ChaosFault, *, took_effect: bool) -> None:
        self.injected[fault.name] += 1
        self.observed[fault.name] += took_effect


async def _wait_until_stopped(pid: int) -> bool:
    return await wait_until(lambda: process_state(pid) == "T", STOP_TIMEOUT_S)


def _fill_up(ballast: Path) -> bool:
    """Write until no space is left. Returns whether the disk is full."""
    try:
        with ballast.open("ab") as file:
            while True:
                file.write(bytes(BLOCK_BYTES))
                file.flush()
    except OSError:
        return os.statvfs(ballast.parent).f_bavail == 0
