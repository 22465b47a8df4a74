"""The embedded run: a whole mode in this process, in memory and in real time, with an observer beside it, as a lane of the page.

Room: page/. Nothing here needs a server. Messages take `pace_s` to arrive, so that a person sees them go.
"""

import asyncio
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import islice
from typing import Self

from broker.memory import MemoryBroker
from broker.memory_queues import Queue
from broker.topology import dead_queue, queue_of
from broker.worker import Limits
from lab.audit import IDS_NAMED, audit
from lab.embedded import EmbeddedParts
from lab.modes import Mode, roles
from lab.storm import SKUS
from lab.system import System, set_up_stock
from observer.ear import NAME as OBSERVER
from observer.ear import Observer, with_observer
from observer.history import History
from observer.original import Original
from observer.reading import histories_of, newest, with_messages
from page.lane import QueueNow, Status, Tally, Wanted, WorkerNow
from services.catalogue import Times
from services.payment.domain import PaymentTimes

#: Short enough that nobody gets bored, long enough to be seen. A payment settles after 3 s, one call to the gateway takes 2 s.
TIMES = Times(deadline_s=15.0, payment=PaymentTimes(look_again_s=2.0, patience_s=5.0, insist_s=5.0))
LIMITS = Limits(slow_s=2.0)
#: Seconds that a worker which crashed is away, and that the observer waits for a fuller commit.
AWAY_S, LINGER_S = 2.0, 0.05
#: What is on the shelf for orders that a person writes; those that are drawn want the storm's articles.
SHELF = {"book": 100_000, "lamp": 100_000, "last-one": 1, "sold-out": 0}
DRAWN = dict.fromkeys(SKUS, 100_000)
#: Orders of one lane's life: everything is kept in memory, and audited again and again.
ORDERS_MAX = 5_000
#: Seconds between two audits, and how much longer than an audit it is at least.
AUDIT_S, AUDIT_SHARE = 2.0, 20.0
#: Histories that are told between two turns of the loop.
AT_ONCE = 20


class EmbeddedLane:
    """`page.lane.Lane` in memory. Use it as a context. `clock` gives seconds since the epoch."""

    can_kill = True

    def __init__(self, mode: Mode, *, seed: int = 1, pace_s: float = 0.25, clock: Callable[[], float] = time.time) -> None:
        self.mode = mode
        self.now = clock
        self._broker = MemoryBroker(travel=lambda _: (pace_s,))
        self._parts = EmbeddedParts(mode, seed, TIMES, LIMITS, self._broker, clock)
        self._system = System(mode, self._parts, away_s=AWAY_S)
        self._heard = self._parts.store(OBSERVER)
        #: Orders that something was heard of since they were last told, the longest ago first.
        self._moved: dict[str, None] = {}
        self._placed: set[str] = set()
        self._tally = Tally()
        self._audit = Auditing(self._system)

    async def __aenter__(self) -> Self:
        await self._system.__aenter__()
        await set_up_stock(self._system.stores["inventory"], SHELF | DRAWN)
        furniture = self._system.door.topology
        self._ear = self._parts.transport(OBSERVER)
        self._observer = Observer(furniture, self._ear, self._heard, self._parts.sources, linger_s=LINGER_S, written=self._note)
        self._hearing = asyncio.create_task(self._observer.run(), name=f"{self.mode}.{OBSERVER}")
        await self._system.until(lambda: self._observer.ready.is_set() or self._hearing.done(), "the observer to hear")
        self._queues = tuple(with_observer(furniture).queue_names())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._observer.stop()
        await self._hearing
        await self._ear.close()
        for name in list(self._system.running):  # nothing that they have in hand outlives this process
            await self._system.kill(name)
        await self._system.__aexit__()

    # --- what is heard ----------------------------------------------------------------------------------------------------

    async def changed(self, limit: int) -> list[History]:
        told: list[History] = []
        while self._moved and len(told) < limit:
            order_ids = list(islice(self._moved, min(AT_ONCE, limit - len(told))))
            for order_id in order_ids:
                del self._moved[order_id]
            told += await histories_of(self._heard, self.mode, order_ids)
        for history in told:
            self._tally.note(history)
        return told

    async def newest(self, limit: int) -> list[History]:
        return await newest(self._heard, self.mode, limit)

    async def order(self, order_id: str) -> tuple[History, list[Original]] | None:
        return await with_messages(self._heard, self.mode, order_id)

    async def status(self) -> Status:
        now, tally = self.now(), self._tally
        audit_says, findings = await self._audit.light()
        return Status(
            mode=self.mode,
            at=now,
            open=len(tally.open),
            oldest_open_s=round(now - min(tally.open.values()), 3) if tally.open else None,
            audit=audit_says,
            findings=findings,
            orders=tally.orders,
            messages=tally.messages,
            messages_per_order=tally.messages_per_order,
            queues=tuple(self._queue(name) for name in self._queues),
            workers=tuple(WorkerNow(name, self._system.is_up(name)) for name in roles(self.mode)),
            faults=tuple(self._faults()),
        )

    def _note(self, order_ids: Collection[str]) -> None:
        self._moved.update(dict.fromkeys(order_ids))

    def _queue(self, name: str) -> QueueNow:
        queue = self._broker.queue(name)
        return QueueNow(name, len(queue), len(queue.consumers) if isinstance(queue, Queue) else 0)

    def _faults(self) -> Iterator[str]:
        if self._hearing.done():
            yield "the observer has ended: nothing is heard any more"
        for name in roles(self.mode):
            if not self._system.is_up(name):
                yield f"{name} is down" + ("" if name in self._system.running else ": it was killed, and waits to be revived")
            queue = queue_of(self._system.door.topology.prefix, name)
            if dead := len(self._broker.queue(dead_queue(queue))):
                yield f"{name} has {dead} dead letter{'' if dead == 1 else 's'}"

    # --- what is asked ----------------------------------------------------------------------------------------------------

    @property
    def room(self) -> int:
        return ORDERS_MAX - len(self._placed)

    async def place(self, wanted: Sequence[Wanted]) -> None:
        self._placed.update(one.order_id for one in wanted)
        for one in wanted:
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


class Auditing:
    """The audit again and again. What only fits together a moment later is no finding: it has to be there twice in a row."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._due_at = 0.0
        self._suspected: dict[str, set[str]] | None = None
        self._light: tuple[str, tuple[str, ...]] = ("unknown", ())

    async def light(self) -> tuple[str, tuple[str, ...]]:
        """What the last audit says, and a new one if it is time: `sound`, `broken` with the findings, or `unknown`."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        if began < self._due_at:
            return self._light
        verdict = audit(await self._system.look())
        found = {finding.promise: set(finding.ids) for finding in verdict.findings}
        if self._suspected is not None or not found:
            before = self._suspected or {}
            lasting = {promise: sorted(ids & before.get(promise, set())) for promise, ids in found.items()}
            findings = tuple(f"{promise}: {', '.join(ids[:IDS_NAMED])}" for promise, ids in lasting.items() if ids)
            self._light = ("broken" if findings else "sound", findings)
        self._suspected = found
        self._due_at = loop.time() + max(AUDIT_S, AUDIT_SHARE * (loop.time() - began))
        return self._light
