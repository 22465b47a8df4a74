"""The demo lane: a whole mode and its observer in this process, in memory and in real time, without a server.

Each message takes `pace_s` seconds to arrive, so that it can be watched.
"""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Self

from api.broker_client import OrderNotConfirmed
from api.sample_orders import SKUS
from bootstrap.memory_backend import MemoryBackend
from bootstrap.modes import Mode, roles
from broker.memory.queues import Queue
from broker.memory.transport import MemoryBroker
from broker.topology import dead_queue, queue_of
from dashboard.demo_timings import DEMO_LIMITS, DEMO_TIMEOUTS, RESTART_DELAY_S
from dashboard.lanes.audit_light import AuditLight, Auditor, run_audit_in_thread
from dashboard.lanes.history_feed import HistoryFeed
from dashboard.lanes.lane import LaneStatus, OrderToPlace, PlacementResult, QueueStatus, WorkerStatus, lane_status, place_orders
from lab.system import System, set_up_stock
from observer.history import History
from observer.raw_message import RawMessage
from observer.recorder import NAME as OBSERVER
from observer.recorder import Observer, with_observer

#: Seconds that the observer waits to fill a commit.
LINGER_S = 0.05
#: Stock for orders from the form, and for generated orders, which use the storm's articles.
DEMO_STOCK = {"book": 100_000, "lamp": 100_000, "last-one": 1, "sold-out": 0}
GENERATED_STOCK = dict.fromkeys(SKUS, 100_000)
#: Maximum orders in a lane's lifetime: all of them stay in memory and are audited repeatedly.
ORDERS_MAX = 3_000


class DemoLane:
    """LaneView, LaneControl and WorkerControl of `dashboard.lanes.lane`, in memory. An async context manager.

    `clock`: seconds since the epoch."""

    def __init__(
        self,
        mode: Mode,
        *,
        seed: int = 1,
        pace_s: float = 0.25,
        clock: Callable[[], float] = time.time,
        run_audit: Auditor = run_audit_in_thread,
    ) -> None:
        self.mode = mode
        self.now = clock
        self._broker = MemoryBroker(transfer_delays=lambda _: (pace_s,))
        self._backend = MemoryBackend(mode, seed, DEMO_TIMEOUTS, DEMO_LIMITS, self._broker, clock)
        self._system = System(mode, self._backend, restart_delay_s=RESTART_DELAY_S)
        self._history_feed = HistoryFeed(self._backend.store(OBSERVER), mode)
        self._placed: dict[str, OrderToPlace] = {}
        self._audit_light = AuditLight(self._backend, run_audit)

    async def __aenter__(self) -> Self:
        await self._system.__aenter__()
        await set_up_stock(self._system.stores["inventory"], DEMO_STOCK | GENERATED_STOCK)
        topology = self._system.client.topology
        self._observer_transport = self._backend.transport(OBSERVER)
        store, mark_changed = self._backend.store(OBSERVER), self._history_feed.mark_changed
        self._observer = Observer(
            topology, self._observer_transport, store, self._backend.environment, linger_s=LINGER_S, on_recorded=mark_changed
        )
        self._observer_task = asyncio.create_task(self._observer.run(), name=f"{self.mode}.{OBSERVER}")
        await self._system.wait_until(
            lambda: self._observer.ready.is_set() or self._observer_task.done(), "the observer to consume"
        )
        self._queues = tuple(with_observer(topology).queue_names())
        self._audit_task = asyncio.create_task(self._audit_light.run(), name=f"{self.mode}.audit")
        return self

    async def __aexit__(self, *_: object) -> None:
        self._audit_task.cancel()
        self._observer.stop()
        await asyncio.wait([self._audit_task, self._observer_task])
        await self._observer_transport.close()
        for name in list(self._system.running):  # kill: what they have in hand is in memory and is lost anyway
            await self._system.kill(name)
        await self._system.__aexit__()

    # --- orders and status ------------------------------------------------------------------------------------------------

    async def changed(self, limit: int) -> list[History]:
        return await self._history_feed.changed(limit)

    async def newest(self, limit: int) -> list[History]:
        return await self._history_feed.newest(limit)

    async def order(self, order_id: str) -> tuple[History, list[RawMessage]] | None:
        return await self._history_feed.order(order_id)

    async def status(self) -> LaneStatus:
        return lane_status(
            self.mode,
            self.now(),
            self._history_feed.counters,
            audit=self._audit_light.light,
            findings=self._audit_light.findings,
            queues=map(self._queue, self._queues),
            workers=(WorkerStatus(name, self._system.is_up(name)) for name in roles(self.mode)),
            faults=self._faults(),
        )

    def _queue(self, name: str) -> QueueStatus:
        queue = self._broker.queue(name)
        return QueueStatus(name, len(queue), len(queue.consumers) if isinstance(queue, Queue) else 0)

    def _faults(self) -> Iterator[str]:
        for task in (self._observer_task, self._audit_task):
            if task.done():
                yield f"{task.get_name()} has ended: this page no longer shows the current state. Restart `saga demo --serve`"
        for name in roles(self.mode):
            if not self._system.is_up(name):
                yield f"{name} is down" + ("" if name in self._system.running else ": it was killed. Revive it to continue")
            queue = queue_of(self._system.client.topology.prefix, name)
            if dead := len(self._broker.queue(dead_queue(queue))):
                yield f"{name} has {dead} dead letter{'' if dead == 1 else 's'}"

    # --- placing orders, killing workers ----------------------------------------------------------------------------------

    @property
    def worker_control(self) -> Self:
        return self

    @property
    def remaining_capacity(self) -> int:
        return ORDERS_MAX - len(self._placed)

    async def place(self, orders: Sequence[OrderToPlace]) -> PlacementResult:
        for one in orders:
            self._placed.setdefault(one.order_id, one)
        return await place_orders(orders, self._place, at_once=1)

    async def _place(self, one: OrderToPlace) -> None:
        if one != self._placed[one.order_id]:
            raise OrderNotConfirmed("its id belongs to another order")
        await self._system.client.place(one.order_id, one.details, one.injected)
        if one.withdrawn:
            await self._system.client.withdraw(one.order_id)

    async def withdraw(self, order_id: str) -> bool:
        if order_id not in self._placed:
            return False
        await self._system.client.withdraw(order_id)
        return True

    async def kill(self, worker: str) -> None:
        if worker in self._system.running:
            await self._system.kill(worker)

    async def revive(self, worker: str) -> None:
        if worker not in self._system.running:
            await self._system.start(worker)
