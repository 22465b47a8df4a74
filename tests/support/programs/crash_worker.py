"""A program that runs one worker of a mode on servers and kills itself with SIGKILL at a point of its loop.

`python -m tests.support.programs.crash_worker JSON`. It runs the product's worker, with wrapped transport and store, and prints
`armed` when the worker consumes.
"""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any

from bootstrap.build_worker import build_worker
from bootstrap.modes import Mode
from broker.loop.inputs import Input
from broker.transport import Outgoing, Receipt, Transport
from broker.worker import Worker
from lab.simulation.crash_matrix import command_of
from lab.simulation.plan import CrashPoint
from services.message_types import PAYMENT
from store.protocol import Changes, Reader, Store, Work
from tests.support.system import Servers


class Trap:
    """Kills the process at `point` while the command called `handling` is in progress."""

    def __init__(self, point: CrashPoint, handling: str) -> None:
        self._point = point
        self._handling = handling
        self.commands_in_progress: list[str] = []

    def reach(self, point: CrashPoint) -> None:
        if point is self._point and self._handling in self.commands_in_progress:
            os.kill(os.getpid(), signal.SIGKILL)


class _Store:
    def __init__(self, inner: Store, trap: Trap) -> None:
        self._inner = inner
        self._trap = trap

    async def transact(self, work: Work[Any]) -> Any:
        self._trap.reach(CrashPoint.BEFORE_LOAD)

        async def checked(reader: Reader) -> tuple[Changes, Any]:
            result = await work(reader)
            self._trap.reach(CrashPoint.BEFORE_COMMIT)
            return result

        result = await self._inner.transact(checked)
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
        await asyncio.sleep(0.2)  # so that the broker receives it before this process is killed
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
    worker_task = asyncio.create_task(worker.run())
    ready = asyncio.create_task(worker.ready.wait())
    await asyncio.wait([worker_task, ready], return_when=asyncio.FIRST_COMPLETED)
    if not worker_task.done():
        sys.stdout.write("armed\n")
        sys.stdout.flush()
    await worker_task


if __name__ == "__main__":
    options = json.loads(sys.argv[1])
    trap = Trap(CrashPoint(options["point"]), options["handling"])
    asyncio.run(work(Mode(options["mode"]), options["worker"], options["prefix"], Servers(**options["servers"]), trap))
