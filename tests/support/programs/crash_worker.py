"""One worker of a mode on real parts, as a process of its own, that kills itself with SIGKILL at a point of its loop.

`python -m tests.support.programs.crash_worker JSON`. The product's worker, transport and store; only the ports are wrapped.
Says `armed` when it consumes; what dies says nothing.
"""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any

from bootstrap.backend import PAYMENT
from bootstrap.build_worker import build_worker
from bootstrap.modes import Mode
from broker.loop.inputs import Input
from broker.transport import Outgoing, Receipt, Transport
from broker.worker import Worker
from lab.simulation.crash_matrix import command_of
from lab.simulation.plan import CrashPoint
from store.protocol import Changes, Reader, Store, Work
from tests.support.system import Servers


class Trap:
    """Dies at `point` when the command called `handling` is in hand."""

    def __init__(self, point: CrashPoint, handling: str) -> None:
        self._point = point
        self._busy = handling
        self.commands_in_progress: list[str] = []

    def reach(self, point: CrashPoint) -> None:
        if point is self._point and self._busy in self.commands_in_progress:
            os.kill(os.getpid(), signal.SIGKILL)


class _Store:
    def __init__(self, inner: Store, trap: Trap) -> None:
        self._inner = inner
        self._trap = trap

    async def transact(self, work: Work[Any]) -> Any:
        self._trap.reach(CrashPoint.BEFORE_LOAD)

        async def decided(reader: Reader) -> tuple[Changes, Any]:
            result = await work(reader)
            self._trap.reach(CrashPoint.BEFORE_COMMIT)
            return result

        result = await self._inner.transact(decided)
        self._trap.reach(CrashPoint.BEFORE_ACK)
        return result

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class _Transport:
    def __init__(self, inner: Transport, trap: Trap) -> None:
        self._inner = inner
        self._trap = trap

    async def ack(self, deliveries: Sequence[Any]) -> None:
        await self._inner.ack(deliveries)
        await asyncio.sleep(0.2)  # so that the broker has it before this process is gone
        self._trap.reach(CrashPoint.BEFORE_PUBLISH)

    async def publish(self, outgoing: Sequence[Outgoing]) -> list[Receipt]:
        receipts = await self._inner.publish(outgoing)
        if outgoing:
            self._trap.reach(CrashPoint.BEFORE_REMOVAL)
        return receipts

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class _Worker(Worker):
    trap: Trap

    async def handle(self, inputs: Sequence[Input], **options: Any) -> None:
        self.trap.commands_in_progress = [command_of(item, self.role) for item in inputs]
        await super().handle(inputs, **options)
        self.trap.commands_in_progress = []


async def work(mode: Mode, name: str, prefix: str, servers: Servers, trap: Trap) -> None:
    backend = servers.backend(prefix)
    gateway = backend.gateway()
    worker = build_worker(
        *(mode, name),
        _Transport(backend.transport(name), trap),  # type: ignore[arg-type]
        _Store(backend.store(name), trap),  # type: ignore[arg-type]
        prefix=prefix,
        timeouts=backend.timeouts,
        environment=backend.environment,
        limits=backend.limits,
        gateway=gateway if name == PAYMENT else None,
        faults=True,
        make=_Worker,
    )
    assert isinstance(worker, _Worker)
    worker.trap = trap
    running = asyncio.create_task(worker.run())
    ready = asyncio.create_task(worker.ready.wait())
    await asyncio.wait([running, ready], return_when=asyncio.FIRST_COMPLETED)
    if not running.done():
        sys.stdout.write("armed\n")
        sys.stdout.flush()
    await running


if __name__ == "__main__":
    told = json.loads(sys.argv[1])
    trap = Trap(CrashPoint(told["point"]), told["handling"])
    asyncio.run(work(Mode(told["mode"]), told["worker"], told["prefix"], Servers(**told["servers"]), trap))
