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

from lab.chaos.schedule import Fault, Kind
from lab.chaos.servers import state_of, until
from lab.chaos.tcp_proxy import Proxy

#: How much longer everything takes while a link is slow.
DELAY_S = 0.15
#: How long to wait for a process that is between two lives before its fault is left out.
ABSENT_S = 5.0
#: How long the kernel may take to stop a process.
STOP_S = 1.0
#: Bytes written at once to fill a disk.
BLOCK = 1 << 16


class Kept(Protocol):
    """A process that is kept running by somebody (`cli.supervisor.Child`)."""

    name: str

    @property
    def pid(self) -> int | None: ...

    def start(self) -> None: ...

    def send(self, number: signal.Signals) -> bool:
        """False if there is nobody to send it to."""

    async def kill(self) -> int | None:
        """`kill -9`; the exit code of the life that ended, None if there was none."""

    async def end(self, grace_s: float) -> None: ...


@dataclass(slots=True)
class Injector:
    """The faults of one run. `disks`: server -> a small disk of its own that can be filled."""

    processes: Mapping[str, Kept]
    proxies: Mapping[str, Proxy]
    disks: Mapping[str, Path] = field(default_factory=dict)
    injected: Counter[str] = field(default_factory=Counter)
    observed: Counter[str] = field(default_factory=Counter)

    async def run(self, faults: Sequence[Fault]) -> None:
        """Let each fault happen at its time from now; returns when the last is over. When cancelled, what stands is undone."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        async with asyncio.TaskGroup() as happening:
            for fault in faults:
                await asyncio.sleep(max(0.0, began + fault.at_s - loop.time()))
                happening.create_task(self.strike(fault), name=fault.name)

    async def strike(self, fault: Fault) -> None:
        """Inject one fault and wait until it is over."""
        match fault.kind:
            case Kind.KILL:
                await self._kill(fault)
            case Kind.FREEZE:
                await self._freeze(fault)
            case Kind.FULL_DISK:
                await self._fill(fault)
            case _:
                await self._disturb(fault, self.proxies[fault.target])

    def heal(self) -> None:
        """Undo what still stands."""
        for proxy in self.proxies.values():
            proxy.heal()
        for process in self.processes.values():
            process.send(signal.SIGCONT)

    async def _kill(self, fault: Fault) -> None:
        process = self.processes[fault.target]
        if not await self._present(process):
            return
        code = await process.kill()
        if code is not None:
            self._count(fault, seen=code == -signal.SIGKILL)

    async def _freeze(self, fault: Fault) -> None:
        process = self.processes[fault.target]
        if not await self._present(process):
            return
        pid = process.pid
        try:
            if pid is None or not process.send(signal.SIGSTOP):
                return
            self._count(fault, seen=await _stopped(pid))
            await asyncio.sleep(fault.for_s)
        finally:
            process.send(signal.SIGCONT)

    async def _disturb(self, fault: Fault, proxy: Proxy) -> None:
        if fault.kind is Kind.CUT:
            self._count(fault, seen=proxy.cut() > 0)
            return
        before = proxy.swallowed, proxy.delayed
        try:
            if fault.kind is Kind.BLACK_HOLE:
                proxy.swallow()
            else:
                proxy.delay(DELAY_S)
            await asyncio.sleep(fault.for_s)
        finally:
            proxy.heal()
        self._count(fault, seen=(proxy.swallowed, proxy.delayed) != before)

    async def _fill(self, fault: Fault) -> None:
        ballast = self.disks[fault.target] / "ballast"
        try:
            full = await asyncio.to_thread(_fill_up, ballast)
            await asyncio.sleep(fault.for_s)
            # What a server frees meanwhile (a log that it cuts) shall not help it.
            full = await asyncio.to_thread(_fill_up, ballast) or full
            self._count(fault, seen=full)
        finally:
            ballast.unlink(missing_ok=True)

    async def _present(self, process: Kept) -> bool:
        """Whether the process lives, or does so soon."""
        return await until(lambda: process.pid is not None, ABSENT_S)

    def _count(self, fault: Fault, *, seen: bool) -> None:
        self.injected[fault.name] += 1
        self.observed[fault.name] += seen


async def _stopped(pid: int) -> bool:
    return await until(lambda: state_of(pid) == "T", STOP_S)


def _fill_up(ballast: Path) -> bool:
    """Write until there is no room left; whether that point was reached."""
    try:
        with ballast.open("ab") as file:
            while True:
                file.write(bytes(BLOCK))
                file.flush()
    except OSError:
        return os.statvfs(ballast.parent).f_bavail == 0
