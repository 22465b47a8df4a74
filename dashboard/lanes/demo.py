"""The embedded run: a whole mode in this process, in memory and in real time, with an observer beside it, as a lane of the page.

Nothing here needs a server. Messages take `pace_s` to arrive, so that a person sees them go.
"""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Self

from api.broker_client import NotTaken
from api.sample_orders import SKUS
from bootstrap.memory_backend import EmbeddedParts
from bootstrap.modes import Mode, roles
from broker.limits import Limits
from broker.memory.queues import Queue
from broker.memory.transport import MemoryBroker
from broker.topology import dead_queue, queue_of
from dashboard.lanes.audit_light import Auditing, Judge, judge_in_a_thread
from dashboard.lanes.history_feed import Heard
from dashboard.lanes.lane import Placed, QueueNow, Status, Wanted, WorkerNow, hand_in, status_of
from lab.system import System, set_up_stock
from observer.history import History
from observer.raw_message import Original
from observer.recorder import NAME as OBSERVER
from observer.recorder import Observer, with_observer
from services.payment.domain import PaymentTimes
from services.registry import Times

#: Short enough that nobody gets bored, long enough to be seen. A payment settles after 3 s, one call to the gateway takes 2 s.
TIMES = Times(deadline_s=15.0, payment=PaymentTimes(look_again_s=2.0, patience_s=5.0, insist_s=5.0))
LIMITS = Limits(slow_s=2.0)
#: Seconds that a worker which crashed is away, and that the observer waits for a fuller commit.
AWAY_S, LINGER_S = 2.0, 0.05
#: What is on the shelf for orders that a person writes; those that are drawn want the storm's articles.
SHELF = {"book": 100_000, "lamp": 100_000, "last-one": 1, "sold-out": 0}
DRAWN = dict.fromkeys(SKUS, 100_000)
#: Orders of one lane's life: everything is kept in memory, and audited again and again.
ORDERS_MAX = 3_000


class EmbeddedLane:
    """`Shown`, `Asked` and `Switches` of `dashboard.lanes.lane`, in memory. Use it as a context. `clock`: seconds since the epoch."""

    def __init__(
        self,
        mode: Mode,
        *,
        seed: int = 1,
        pace_s: float = 0.25,
        clock: Callable[[], float] = time.time,
        judge: Judge = judge_in_a_thread,
    ) -> None:
        self.mode = mode
        self.now = clock
        self._broker = MemoryBroker(travel=lambda _: (pace_s,))
        self._parts = EmbeddedParts(mode, seed, TIMES, LIMITS, self._broker, clock)
        self._system = System(mode, self._parts, away_s=AWAY_S)
        self._heard = Heard(self._parts.store(OBSERVER), mode)
        self._placed: dict[str, Wanted] = {}
        self._auditing = Auditing(self._parts, judge)

    async def __aenter__(self) -> Self:
        await self._system.__aenter__()
        await set_up_stock(self._system.stores["inventory"], SHELF | DRAWN)
        furniture = self._system.door.topology
        self._ear = self._parts.transport(OBSERVER)
        store, note = self._parts.store(OBSERVER), self._heard.note
        self._observer = Observer(furniture, self._ear, store, self._parts.sources, linger_s=LINGER_S, written=note)
        self._hearing = asyncio.create_task(self._observer.run(), name=f"{self.mode}.{OBSERVER}")
        await self._system.until(lambda: self._observer.ready.is_set() or self._hearing.done(), "the observer to hear")
        self._queues = tuple(with_observer(furniture).queue_names())
        self._judging = asyncio.create_task(self._auditing.run(), name=f"{self.mode}.audit")
        return self

    async def __aexit__(self, *_: object) -> None:
        self._judging.cancel()
        self._observer.stop()
        await asyncio.wait([self._judging, self._hearing])
        await self._ear.close()
        for name in list(self._system.running):  # nothing that they have in hand outlives this process
            await self._system.kill(name)
        await self._system.__aexit__()

    # --- what is heard ----------------------------------------------------------------------------------------------------

    async def changed(self, limit: int) -> list[History]:
        return await self._heard.changed(limit)

    async def newest(self, limit: int) -> list[History]:
        return await self._heard.newest(limit)

    async def order(self, order_id: str) -> tuple[History, list[Original]] | None:
        return await self._heard.order(order_id)

    async def status(self) -> Status:
        return status_of(
            self.mode,
            self.now(),
            self._heard.tally,
            audit=self._auditing.light,
            findings=self._auditing.findings,
            queues=map(self._queue, self._queues),
            workers=(WorkerNow(name, self._system.is_up(name)) for name in roles(self.mode)),
            faults=self._faults(),
        )

    def _queue(self, name: str) -> QueueNow:
        queue = self._broker.queue(name)
        return QueueNow(name, len(queue), len(queue.consumers) if isinstance(queue, Queue) else 0)

    def _faults(self) -> Iterator[str]:
        for task in (self._hearing, self._judging):
            if task.done():
                yield f"{task.get_name()} has ended: what is shown is not true any more"
        for name in roles(self.mode):
            if not self._system.is_up(name):
                yield f"{name} is down" + ("" if name in self._system.running else ": it was killed, and waits to be revived")
            queue = queue_of(self._system.door.topology.prefix, name)
            if dead := len(self._broker.queue(dead_queue(queue))):
                yield f"{name} has {dead} dead letter{'' if dead == 1 else 's'}"

    # --- what is asked ----------------------------------------------------------------------------------------------------

    @property
    def switches(self) -> Self:
        return self

    @property
    def room(self) -> int:
        return ORDERS_MAX - len(self._placed)

    async def place(self, wanted: Sequence[Wanted]) -> Placed:
        for one in wanted:
            self._placed.setdefault(one.order_id, one)
        return await hand_in(wanted, self._place, at_once=1)

    async def _place(self, one: Wanted) -> None:
        if one != self._placed[one.order_id]:
            raise NotTaken("its id belongs to another order")
        await self._system.door.place(one.order_id, one.details, one.injected)
        if one.withdrawn:
            await self._system.door.withdraw(one.order_id)

    async def withdraw(self, order_id: str) -> bool:
        if order_id not in self._placed:
            return False
        await self._system.door.withdraw(order_id)
        return True

    async def kill(self, worker: str) -> None:
        if worker in self._system.running:
            await self._system.kill(worker)

    async def revive(self, worker: str) -> None:
        if worker not in self._system.running:
            await self._system.start(worker)
