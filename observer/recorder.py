"""The observer at work: hears every message of a mode, writes it down, decides nothing. Nobody ever waits for it.

Its queue is bounded and drops the oldest, so that one that is slow, away or dead costs the others only room;
what was dropped shows as a time of loss. Writing a message down twice makes no difference, so it needs no inbox.
"""

import asyncio
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

import structlog

from broker.backoff import Patience, Stopped, pause
from broker.environment import Sources
from broker.loop.inputs import Intake
from broker.topology import Listener, Topology, aside_exchange, dropped_queue, queue_of
from broker.transport import Delivery, Transport, UnsafeTopology, furnish
from observer.documents import HeardOrder, Losses
from observer.observation import Sighting, sighting_of
from store.document import Document, Record
from store.protocol import Changes, DataRefused, Reader, Store

log = structlog.get_logger()

#: Its name as a worker, and that of its queue and database.
NAME = "observer"
#: Messages that wait for it at most.
QUEUE_MAX = 50_000
#: Messages written down in one commit.
BATCH_MAX = 1024
#: Seconds that it waits for a fuller commit: nobody else waits for it, and the fuller it is, the less it costs the others.
LINGER_S = 0.5
#: Seconds between two looks for what was dropped.
LOOK_S = 1.0


def with_observer(topology: Topology) -> Topology:
    """The mode's furniture and the observer's own queue."""
    return replace(topology, listeners=(Listener(NAME, QUEUE_MAX),))


class Observer:
    """The observer of one mode. `run` until `stop`; it opens transport and store, and leaves them open.

    `written` is told of which orders something was written down."""

    def __init__(
        self,
        topology: Topology,
        transport: Transport,
        store: Store,
        sources: Sources | None = None,
        *,
        linger_s: float = LINGER_S,
        written: Callable[[Collection[str]], None] = lambda _: None,
    ) -> None:
        #: Set once it hears.
        self.ready = asyncio.Event()
        self._topology = with_observer(topology)
        self._queue = queue_of(topology.prefix, NAME)
        self._aside = aside_exchange(topology.prefix)
        self._transport = transport
        self._store = store
        self._sources = sources or Sources()
        self._linger_s = linger_s
        self._written = written
        self._intake = Intake()
        self._marks: list[Delivery] = []
        #: The newest that was heard, and what that was at the last look, in seconds since the epoch.
        self._heard_at = self._looked_at = 0.0
        self._writing = False
        self._stopping = asyncio.Event()
        self._patience = Patience(NAME, self._sources, self._stopping)

    async def run(self) -> None:
        """Hear until `stop`. Raises what cannot be waited out: an unsafe store, a queue that was declared differently or taken
        away (whoever begins anew makes another, and says that something was lost)."""
        try:
            await self._patience.insist(lambda: self._store.open([HeardOrder.collection]))
            await self._patience.insist(self._transport.open)
            await self._patience.insist(self._begin)
        except Stopped:
            return
        log.info("started", service=NAME, queue=self._queue)
        self.ready.set()
        looking = asyncio.create_task(self._keep_looking(), name=f"{NAME}.looking")
        looking.add_done_callback(lambda _: self._intake.wake())
        try:
            while not self._stopping.is_set() and not looking.done():
                await self._hear()
        except Stopped:
            return
        finally:
            looking.cancel()
            await asyncio.wait([looking])
        if not looking.cancelled():
            looking.result()

    def stop(self) -> None:
        self._stopping.set()
        self._intake.wake()

    async def caught_up(self) -> bool:
        """Whether it has written down all that has reached its queue."""
        return not (self._writing or len(self._intake) or await self._transport.depth(self._queue))

    async def _begin(self) -> None:
        """Make the queue and consume it. If it was there before and is gone, so is what was in it; that is written down first,
        because once the queue is there again nobody can tell."""
        try:
            await self._transport.depth(self._queue)
            gone = False
        except UnsafeTopology:
            gone = True
        now = self._sources.now()
        known = await self._losses(lambda losses: losses.lost(now) if gone and losses.sure_until < now else losses)
        await furnish(self._transport, self._topology)
        self._heard_at = self._looked_at = known.sure_until
        await self._transport.consume(dropped_queue(self._queue), 10, self._marks.append)
        await self._transport.consume(self._queue, 2 * BATCH_MAX, self._intake.put)

    async def _hear(self) -> None:
        batch = [item for item in await self._intake.take(BATCH_MAX) if isinstance(item, Delivery)]
        if not batch:
            return
        self._writing = True
        heard = [sighting for delivery in batch if self._is_genuine(delivery) and (sighting := sighting_of(delivery.wire))]
        try:
            await self._patience.insist(lambda: self._write_down(heard))
        except DataRefused as error:  # what decides nothing must not stand still either: it says that it has lost something
            log.warning("not_written_down", service=NAME, count=len(heard), error=str(error))
            await self._patience.insist(lambda: self._losses(lambda losses: losses.lost(self._newest(heard))))
        self._heard_at = self._newest(heard)
        await self._transport.ack(batch)
        self._writing = False
        if len(self._intake) < BATCH_MAX:
            await pause(self._linger_s, self._stopping)

    async def _write_down(self, heard: Sequence[Sighting]) -> None:
        by_order: dict[str, list[Sighting]] = {}
        for sighting in heard:
            by_order.setdefault(sighting.order_id, []).append(sighting)
        keys = [HeardOrder.key_of(order_id) for order_id in by_order]

        async def work(reader: Reader) -> tuple[Changes, None]:
            found = await reader.load(keys)
            records = []
            for order_id, sightings in by_order.items():
                record = found.get(HeardOrder.key_of(order_id))
                known = HeardOrder.from_body(record.body) if record else HeardOrder(order_id=order_id)
                records.append(_next(record, known.plus(sightings)))
            return Changes(records), None

        if keys:
            await self._store.transact(work)
            self._written(by_order.keys())

    # --- what was lost ----------------------------------------------------------------------------------------------------

    async def _keep_looking(self) -> None:
        while True:
            await pause(LOOK_S, self._stopping)
            await self._patience.insist(self._look)

    async def _look(self) -> None:
        """A mark in the queue of the dropped: something was lost since we were last sure. Without one we are sure of what was
        heard by the look before, for a mark may have been on its way at that one."""
        await self._transport.depth(self._queue)  # raises if somebody has taken it away
        marks = list(self._marks)
        if marks:
            dropped = [sighting.sent_at for mark in marks if (sighting := sighting_of(mark.wire))]
            until = max(dropped, default=self._heard_at)
            log.warning("messages_lost", service=NAME, queue_max=QUEUE_MAX)
            await self._losses(lambda losses: losses.lost(until))
            await self._transport.ack(marks)
            del self._marks[: len(marks)]
        else:
            await self._losses(lambda losses: losses.but(sure_until=max(losses.sure_until, self._looked_at)))
        self._looked_at = self._heard_at

    async def _losses(self, change: Callable[[Losses], Losses]) -> Losses:
        """Change what is known of losses; before the first message nothing was lost."""

        async def work(reader: Reader) -> tuple[Changes, Losses]:
            key = Losses.key_of(Losses.name_of_all)
            record = (await reader.load([key])).get(key)
            known = Losses.from_body(record.body) if record else Losses(sure_until=self._sources.now())
            changed = change(known)
            return Changes([_next(record, changed)] if record is None or changed != known else []), changed

        return await self._store.transact(work)

    def _is_genuine(self, delivery: Delivery) -> bool:
        """Whether it came by its own type, to which the broker holds senders. What is put aside comes by the name of a queue."""
        return delivery.exchange == self._aside or delivery.routing_key == delivery.wire.type

    def _newest(self, heard: Sequence[Sighting]) -> float:
        return max([self._heard_at, *(sighting.sent_at for sighting in heard)])


def _next(record: Record | None, document: Document) -> Record:
    """The document as its next version."""
    return Record(*document.key, (record.version if record else 0) + 1, document.to_body())
