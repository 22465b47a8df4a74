"""A whole mode in one event loop: its workers, a client that places orders, and snapshots of what is stored.

Journeys and demo run on it, on in-memory or server back ends alike. Workers can be stopped, started and killed by name, as
processes can.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Self

from api.broker_client import BrokerOrderClient
from bootstrap.backend import Backend
from bootstrap.build_worker import build_worker
from bootstrap.modes import Mode, roles, topology
from broker.topology import queue_of
from broker.transport import Transport, Wire
from broker.worker import Worker
from observer.recorder import NAME, Observer
from ops.snapshot import Snapshot, take_snapshot
from services.inventory.domain import Stock
from services.message_types import API_NAME, PAYMENT
from services.payment.gateway import PaymentGateway
from store.document import Record
from store.protocol import Store


class WorkerCrashed(BaseException):
    """Raised where a process would be killed. A BaseException, so that `except Exception` does not handle it."""


async def set_up_stock(store: Store, quantities: Mapping[str, int]) -> None:
    """Write stock (SKU -> units) into an inventory store that has none of these SKUs yet."""
    articles = [Stock(sku=sku).receive(quantity) for sku, quantity in quantities.items()]
    await store.put([Record("stock", article.sku, 1, article.to_body()) for article in articles])


@dataclass(slots=True)
class RunningWorker:
    """A running worker, its clients and its task."""

    worker: Worker
    transport: Transport
    gateway: PaymentGateway
    task: asyncio.Task[None]


@dataclass(slots=True)
class System:
    """The workers of one mode; an asynchronous context manager that starts and stops them.

    `events`: every event of the mode, in order of arrival. `stores`: each worker's store, open until the end."""

    mode: Mode
    backend: Backend
    prefix: str | None = None
    #: Seconds between a worker's crash and its restart.
    restart_delay_s: float = 0.0
    events: list[Wire] = field(default_factory=list)
    client: BrokerOrderClient = field(init=False)
    stores: dict[str, Store] = field(default_factory=dict)
    running: dict[str, RunningWorker] = field(default_factory=dict)
    _client_transport: Transport = field(init=False)
    _crashed: set[str] = field(default_factory=set)

    async def __aenter__(self) -> Self:
        declared_topology = topology(self.mode, self.prefix)
        self._client_transport = self.backend.transport(API_NAME)
        self.client = BrokerOrderClient(self._client_transport, declared_topology, self.backend.environment)
        await self._client_transport.open()
        await self._client_transport.declare(declared_topology)
        await self._client_transport.subscribe(declared_topology, ["#"], self.events.append)
        for name in roles(self.mode):
            self.stores[name] = self.backend.store(name)
            await self.stores[name].open([])
            await self.start(name)
        return self

    async def __aexit__(self, *_: object) -> None:
        while self.running:
            await self.stop(next(iter(self.running)))
        for store in self.stores.values():
            await store.close()
        await self._client_transport.close()

    async def start(self, name: str) -> None:
        """Start a worker that is not running."""
        transport, gateway = self.backend.transport(name), self.backend.gateway()
        worker = build_worker(
            *(self.mode, name, transport, self.stores[name]),
            prefix=self.prefix,
            timeouts=self.backend.timeouts,
            environment=self.backend.environment,
            limits=self.backend.limits,
            gateway=gateway if name == PAYMENT else None,
            faults=True,
            crash=_crash,
        )
        task = asyncio.create_task(self._supervise(name, worker, gateway), name=name)
        self.running[name] = RunningWorker(worker, transport, gateway, task)
        self._crashed.discard(name)

    async def stop(self, name: str) -> None:
        """Shut down a worker: it finishes its batch, and the remaining messages stay in its queue."""
        while name in self.running:  # a worker that crashed at this moment is restarted, so its successor is stopped too
            running = self.running.pop(name)
            running.worker.stop()
            await running.task
            await running.transport.close()
            await running.gateway.close()

    async def kill(self, name: str) -> None:
        """Kill a worker at whichever await it has reached, as SIGKILL does. It is not restarted."""
        running = self.running.pop(name)
        self._crashed.discard(name)
        await running.transport.close()  # first, so that nothing it still does reaches the broker
        running.task.cancel()
        await asyncio.wait([running.task])
        await running.gateway.close()

    def is_up(self, name: str) -> bool:
        """Whether a worker is running: not stopped, not killed, and not waiting for its restart after a crash."""
        return name in self.running and name not in self._crashed and not self.running[name].task.done()

    async def _supervise(self, name: str, worker: Worker, gateway: PaymentGateway) -> None:
        """Run the worker; restart it after an injected crash, as `saga up` does with processes."""
        try:
            await worker.run()
        except WorkerCrashed:
            self._crashed.add(name)
            await worker.transport.close()
            await gateway.close()
            if self.restart_delay_s:
                await asyncio.sleep(self.restart_delay_s)
            await self.start(name)

    async def wait_until(self, condition: Callable[[], bool | Awaitable[bool]], what: str, *, timeout_s: float = 60.0) -> None:
        """Wait for a condition. Raises TimeoutError naming `what` was awaited, or the error of a worker that failed meanwhile."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        while True:
            holds = condition()
            if holds if isinstance(holds, bool) else await holds:
                return
            self._raise_worker_error()
            if loop.time() > deadline:
                raise TimeoutError(f"{self.mode}: waited {timeout_s} s for {what}")
            await asyncio.sleep(0.02)

    async def wait_until_idle(self, *, timeout_s: float = 60.0) -> None:
        """Wait until no message is queued or in an outbox, every worker is idle, and no order or payment is in progress."""
        await self.wait_until(self._is_idle, "the system to become idle", timeout_s=timeout_s)

    async def has_waiting_messages(self, worker: str) -> bool:
        """Whether there are messages in a worker's queue."""
        return await self._client_transport.depth(queue_of(self.client.topology.prefix, worker)) > 0

    async def snapshot(self) -> Snapshot:
        """Everything stored now, the gateway's books included."""
        return await take_snapshot(self.stores, await self.backend.books())

    async def _is_idle(self) -> bool:
        for _ in range(2):  # twice, because a message may be in transit between the broker and its worker
            if not all(running.worker.idle for running in self.running.values()):
                return False
            for queue in self.client.topology.live_queues():
                if await self._client_transport.depth(queue):
                    return False
            await asyncio.sleep(0.02)
        for running in list(self.running.values()):
            if await running.worker.has_unpublished():
                return False
        snapshot = await self.snapshot()
        return not any(order.is_open for order in snapshot.orders.values()) and not any(
            p.due_at for p in snapshot.payments.values()
        )

    def _raise_worker_error(self) -> None:
        for running in self.running.values():
            if running.task.done() and not running.task.cancelled() and (error := running.task.exception()):
                raise error


def _crash() -> None:
    raise WorkerCrashed


@asynccontextmanager
async def run_observer(system: System) -> AsyncIterator[Observer]:
    """Run an observer during the block; before the block ends normally, it has stored everything it received."""
    transport = system.backend.transport(NAME)
    observer = Observer(system.client.topology, transport, system.backend.store(NAME), system.backend.environment)
    observer_task = asyncio.create_task(observer.run(), name=NAME)
    try:
        await system.wait_until(observer.ready.is_set, "the observer to be ready")
        yield observer
        await system.wait_until(observer.has_caught_up, "the observer to catch up")
    finally:
        observer.stop()
        await observer_task
        await transport.close()
