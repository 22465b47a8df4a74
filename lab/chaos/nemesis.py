"""Makes the faults of a schedule happen, and sees whether each had an effect.

`injected` counts what was done, `observed` what was seen to act: the process was gone with -9, the kernel had
it stopped, connections were really cut, bytes really disappeared or came late, the disk had no room left.
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

#: How much longer everything takes while a link is slow.
LINK_DELAY_S = 0.15
#: How long to wait for a process that is between two lives before its fault is left out.
RESTART_TIMEOUT_S = 5.0
#: How long the kernel may take to stop a process.
STOP_TIMEOUT_S = 1.0
#: Bytes written at once to fill a disk.
BLOCK = 1 << 16


class ManagedProcess(Protocol):
    """A process that is kept running by somebody (`cli.supervisor.Child`)."""

    name: str

    @property
    def pid(self) -> int | None: ...

    def start(self) -> None: ...

    def send(self, number: signal.Signals) -> bool:
        """False if there is nobody to send it to."""

    async def kill(self) -> int | None:
        """`kill -9`; the exit code of the life that ended, None if there was none."""

    async def terminate(self, grace_s: float) -> None: ...


@dataclass(slots=True)
class Nemesis:
    """The faults of one run. `disks`: server -> a small disk of its own that can be filled."""

    processes: Mapping[str, ManagedProcess]
    proxies: Mapping[str, TcpProxy]
    disks: Mapping[str, Path] = field(default_factory=dict)
    injected: Counter[str] = field(default_factory=Counter)
    observed: Counter[str] = field(default_factory=Counter)

    async def run(self, faults: Sequence[ChaosFault]) -> None:
        """Let each fault happen at its time from now; returns when the last is over. When cancelled, what stands is undone."""
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
        """Undo what still stands."""
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
            # What a server frees meanwhile (a log that it cuts) shall not help it.
            is_full = await asyncio.to_thread(_fill_up, ballast) or is_full
            self._count(fault, took_effect=is_full)
        finally:
            ballast.unlink(missing_ok=True)

    async def _is_running(self, process: ManagedProcess) -> bool:
        """Whether the process lives, or does so soon."""
        return await wait_until(lambda: process.pid is not None, RESTART_TIMEOUT_S)

    def _count(self, fault: ChaosFault, *, took_effect: bool) -> None:
        self.injected[fault.name] += 1
        self.observed[fault.name] += took_effect


async def _wait_until_stopped(pid: int) -> bool:
    return await wait_until(lambda: process_state(pid) == "T", STOP_TIMEOUT_S)


def _fill_up(ballast: Path) -> bool:
    """Write until there is no room left; whether that point was reached."""
    try:
        with ballast.open("ab") as file:
            while True:
                file.write(bytes(BLOCK))
                file.flush()
    except OSError:
        return os.statvfs(ballast.parent).f_bavail == 0
