"""The observer: consumes a copy of every message of a mode and records it. It publishes nothing, so no worker waits for it.

Its queue is bounded and drops the oldest messages, so that a slow or stopped observer costs the broker a bounded amount of space.
Dropped messages are recorded as a loss period. Recording a message twice makes no difference, so there is no inbox.
"""

import asyncio
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

import structlog

from broker.backoff import Backoff, ShutdownRequested, pause
from broker.environment import Environment
from broker.loop.inputs import InputQueue
from broker.topology import Listener, Topology, dropped_queue, queue_of, retry_exchange
from broker.transport import Delivery, Transport, UnsafeTopology, declare_or_check
from observer.documents import LossPeriods, ObservedOrder
from observer.observation import Observation, observation_of
from store.document import Document, Record
from store.protocol import Changes, DataRefused, Reader, Store

log = structlog.get_logger()

#: Its name as a worker, and that of its queue and database.
NAME = "observer"
#: Messages that its queue holds at most.
QUEUE_MAX = 50_000
#: Messages recorded in one commit at most.
BATCH_MAX = 1024
#: Seconds between two commits that are not full: larger batches cost the shared servers less.
LINGER_S = 0.5
#: Seconds between two checks for dropped messages.
LOSS_CHECK_S = 1.0


def with_observer(topology: Topology) -> Topology:
    """The mode's topology with the observer's queue."""
    return replace(topology, listeners=(Listener(NAME, QUEUE_MAX),))


class Observer:
    """The observer of one mode: `run` it until `stop`. It opens transport and store, and does not close them.

    `on_recorded` is called with the ids of the orders of each recorded batch."""

    def __init__(
        self,
        topology: Topology,
        transport: Transport,
        store: Store,
        environment: Environment | None = None,
        *,
        linger_s: float = LINGER_S,
        on_recorded: Callable[[Collection[str]], None] = lambda _: None,
    ) -> None:
        #: Set once it consumes.
        self.ready = asyncio.Event()
        self._topology = with_observer(topology)
        self._queue = queue_of(topology.prefix, NAME)
        self._retry_exchange = retry_exchange(topology.prefix)
        self._transport = transport
        self._store = store
        self._environment = environment or Environment()
        self._linger_s = linger_s
        self._on_recorded = on_recorded
        self._inputs = InputQueue()
        self._drop_marks: list[Delivery] = []
        #: When the newest received message was sent, now and at the last loss check, in seconds since the epoch.
        self._newest_at = self._checked_at = 0.0
        self._recording = False
        self._stopping = asyncio.Event()
        self._backoff = Backoff(NAME, self._environment, self._stopping)

    async def run(self) -> None:
        """Consume until `stop`. Raises UnsafeStore and UnsafeTopology, which no retry mends.

        A queue that is deleted meanwhile is such an error: the next start declares it again and records a loss."""
        try:
            await self._backoff.retry_until(lambda: self._store.open([ObservedOrder.collection]))
            await self._backoff.retry_until(self._transport.open)
            await self._backoff.retry_until(self._start_consuming)
        except ShutdownRequested:
            return
        log.info("started", service=NAME, queue=self._queue)
        self.ready.set()
        loss_checks = asyncio.create_task(self._check_losses_periodically(), name=f"{NAME}.loss_checks")
        loss_checks.add_done_callback(lambda _: self._inputs.wake())
        try:
            while not self._stopping.is_set() and not loss_checks.done():
                await self._record_batch()
        except ShutdownRequested:
            return
        finally:
            loss_checks.cancel()
            await asyncio.wait([loss_checks])
        if not loss_checks.cancelled():
            loss_checks.result()

    def stop(self) -> None:
        self._stopping.set()
        self._inputs.wake()

    async def has_caught_up(self) -> bool:
        """Whether every message that has reached its queue is recorded."""
        return not (self._recording or len(self._inputs) or await self._transport.depth(self._queue))

    async def _start_consuming(self) -> None:
        """Declare the queue and consume it.

        If the queue existed before and is gone, its messages are lost. The loss is recorded before the queue is declared, because
        afterwards nothing shows that it was gone."""
        try:
            await self._transport.depth(self._queue)
            gone = False
        except UnsafeTopology:
            gone = True
        now = self._environment.now()
        known = await self._update_losses(lambda losses: losses.with_loss(now) if gone and losses.sure_until < now else losses)
        await declare_or_check(self._transport, self._topology)
        self._newest_at = self._checked_at = known.sure_until
        await self._transport.consume(dropped_queue(self._queue), 10, self._drop_marks.append)
        await self._transport.consume(self._queue, 2 * BATCH_MAX, self._inputs.put)

    async def _record_batch(self) -> None:
        batch = [item for item in await self._inputs.take(BATCH_MAX) if isinstance(item, Delivery)]
        if not batch:
            return
        self._recording = True
        observed = [
            observation for delivery in batch if self._is_genuine(delivery) and (observation := observation_of(delivery.wire))
        ]
        try:
            await self._backoff.retry_until(lambda: self._record(observed))
        except DataRefused as error:  # a batch that the store never takes must not stop the observer: it is recorded as lost
            log.warning("observations_refused", service=NAME, count=len(observed), error=str(error))
            await self._backoff.retry_until(lambda: self._update_losses(lambda losses: losses.with_loss(self._newest(observed))))
        self._newest_at = self._newest(observed)
        await self._transport.ack(batch)
        self._recording = False
        if len(self._inputs) < BATCH_MAX:
            await pause(self._linger_s, self._stopping)

    async def _record(self, observed: Sequence[Observation]) -> None:
        by_order: dict[str, list[Observation]] = {}
        for observation in observed:
            by_order.setdefault(observation.order_id, []).append(observation)
        keys = [ObservedOrder.key_of(order_id) for order_id in by_order]

        async def work(reader: Reader) -> tuple[Changes, None]:
            found = await reader.load(keys)
            records = []
            for order_id, observations in by_order.items():
                record = found.get(ObservedOrder.key_of(order_id))
                known = ObservedOrder.from_body(record.body) if record else ObservedOrder(order_id=order_id)
                records.append(_next(record, known.with_observations(observations)))
            return Changes(records), None

        if keys:
            await self._store.transact(work)
            self._on_recorded(by_order.keys())

    # --- losses -----------------------------------------------------------------------------------------------------------

    async def _check_losses_periodically(self) -> None:
        while True:
            await pause(LOSS_CHECK_S, self._stopping)
            await self._backoff.retry_until(self._check_losses)

    async def _check_losses(self) -> None:
        """Record a loss if messages were dropped since the last check; else advance `sure_until`.

        The broker keeps the latest dropped message in a queue of its own, as the mark of a loss. Without a mark `sure_until`
        advances only to what had been received at the check before, because a mark may still have been on its way then."""
        await self._transport.depth(self._queue)  # raises UnsafeTopology if the queue was deleted
        marks = list(self._drop_marks)
        if marks:
            dropped = [observation.sent_at for mark in marks if (observation := observation_of(mark.wire))]
            until = max(dropped, default=self._newest_at)
            log.warning("messages_lost", service=NAME, queue_max=QUEUE_MAX)
            await self._update_losses(lambda losses: losses.with_loss(until))
            await self._transport.ack(marks)
            del self._drop_marks[: len(marks)]
        else:
            await self._update_losses(lambda losses: losses.copy_with(sure_until=max(losses.sure_until, self._checked_at)))
        self._checked_at = self._newest_at

    async def _update_losses(self, change: Callable[[LossPeriods], LossPeriods]) -> LossPeriods:
        """Change the loss periods. The first start creates them, sure of everything until then."""

        async def work(reader: Reader) -> tuple[Changes, LossPeriods]:
            key = LossPeriods.key_of(LossPeriods.name_of_all)
            record = (await reader.load([key])).get(key)
            known = LossPeriods.from_body(record.body) if record else LossPeriods(sure_until=self._environment.now())
            changed = change(known)
            return Changes([_next(record, changed)] if record is None or changed != known else []), changed

        return await self._store.transact(work)

    def _is_genuine(self, delivery: Delivery) -> bool:
        """Whether the message came with its type as routing key: the broker's permissions hold a sender to its own types.

        A retry comes from the retry exchange, with the name of a queue as routing key."""
        return delivery.exchange == self._retry_exchange or delivery.routing_key == delivery.wire.type

    def _newest(self, observed: Sequence[Observation]) -> float:
        return max([self._newest_at, *(observation.sent_at for observation in observed)])


def _next(record: Record | None, document: Document) -> Record:
    """The document as its next version."""
    return Record(*document.key, (record.version if record else 0) + 1, document.to_body())
