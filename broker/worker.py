"""The worker loop of every worker in both modes, with group commit.

All queued inputs are handled as one batch and committed in one transaction:

    1. take      all queued inputs, up to batch_max, without waiting for a fuller batch
    2. decode    a delivery that cannot be decoded, or whose route is not that of its type, is dead-lettered
    3. load      the documents that the batch names, one query for each collection
    4. handle    run the handlers: pure functions, without input or output
    5. commit    documents, inbox keys, outbox rows and the deletion of published outbox rows, in one transaction;
                 then start external calls, and confirm the copies that go to delay queues or dead letters
    6. ack       the inputs: their effects are in the database, so the broker can drop them
    7. publish   all messages, and await their confirms together; an unconfirmed message is left to the relay

A crash between any two steps loses and duplicates no effect: an unacknowledged input is redelivered, and dropped by the inbox if
it was committed; a committed message that was not published is in the outbox, and the relay publishes it. Steps 3 to 5 are
`BatchHandler` inside `Store.transact`.
"""

import asyncio
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress

import structlog

from broker.backoff import Backoff, ShutdownRequested
from broker.codec import Origin
from broker.environment import Environment
from broker.handler import Call
from broker.limits import Limits
from broker.loop.batch import BatchHandler, BatchPlan, Job
from broker.loop.external_calls import Caller, CallPool
from broker.loop.fault_injection import FaultInjector, crash
from broker.loop.input_decoder import InputDecoder
from broker.loop.inputs import Input, InputQueue, LocalInput
from broker.loop.outbox_relay import DELETE_BATCH_ROWS, OutboxRelay
from broker.loop.poison import PoisonDetector, id_of
from broker.loop.retry import Republished, Republisher
from broker.loop.timers import run_timers
from broker.message import Message
from broker.role import Role
from broker.topology import Topology, queue_of
from broker.transport import Delivery, Transport
from store.protocol import Changes, DataRefused, DuplicateInput, OutcomeUnknown, Reader, Store, StoreError

log = structlog.get_logger()


async def no_calls(call: Call, injected: str | None) -> Message:
    """Caller of a worker whose service makes no external calls. Raises LookupError."""
    raise LookupError(f"a handler requested {call!r} ({injected}), but this worker has no caller: pass one to Worker")


class Worker:
    """One worker: a role, a transport and a store. Several workers may run the same role concurrently."""

    def __init__(
        self,
        role: Role,
        topology: Topology,
        transport: Transport,
        store: Store,
        *,
        environment: Environment | None = None,
        caller: Caller = no_calls,
        limits: Limits | None = None,
        faults: bool = False,
        crash: Callable[[], None] = crash,
        on_commit: Callable[[BatchPlan], None] = lambda _: None,
    ) -> None:
        self.role = role
        self.transport = transport
        self.store = store
        self.environment = environment = environment or Environment()
        self.limits = limits = limits or Limits()
        #: Set once the worker consumes its queue.
        self.ready = asyncio.Event()
        self._queue = queue_of(topology.prefix, role.worker)
        self._inputs = InputQueue()
        self._batch_handler = BatchHandler(role, topology, environment)
        self._republisher = republisher = Republisher(transport, topology, role.worker, environment)
        self._decoder = InputDecoder(role, topology, republisher, faults=faults)
        self._fault_injector = (
            FaultInjector(role.service, store, republisher, slow_s=limits.slow_s, crash=crash) if faults else None
        )
        self._poison_detector = PoisonDetector(store, self._batch_handler.inbox_key)
        self._call_pool = CallPool(caller, self._inputs, limit=limits.calls_max)
        self._relay = OutboxRelay(role.worker, transport, store, environment, limits)
        #: Called with the plan of each batch after its commit. Set it before `run`.
        self.on_commit = on_commit
        self._stopping = asyncio.Event()
        self._backoff = Backoff(role.worker, environment, self._stopping)
        self._busy = False

    async def run(self) -> None:
        """Open store and transport, then loop until `stop`. Raises what a retry cannot fix (unsafe store, missing queue)."""
        try:
            await self._backoff.retry_until(
                lambda: self.store.open([timer.kind.collection for timer in self.role.service.timers])
            )
            await self._backoff.retry_until(self.transport.open)
            await self._backoff.retry_until(lambda: self.transport.consume(self._queue, self.limits.prefetch, self._inputs.put))
        except ShutdownRequested:
            return
        log.info("started", service=self.role.worker, queue=self._queue, faults=self._fault_injector is not None)
        self.ready.set()
        background = [
            asyncio.create_task(self._relay.run(), name=f"{self.role.worker}.relay"),
            asyncio.create_task(
                run_timers(self.role, self.store, self._inputs, self.environment, self.limits.timer_interval_s),
                name=f"{self.role.worker}.timers",
            ),
        ]
        for task in background:
            task.add_done_callback(lambda _: self._inputs.wake())
        try:
            await self._loop(background)
        finally:
            await self._shut_down(background)

    def submit(self, message: Message, origin: Origin) -> None:
        """Queue an input from inside this process, such as an API request; `on_commit` receives its outcome."""
        self._inputs.put(LocalInput(message, origin))

    @property
    def idle(self) -> bool:
        """Whether no batch is being handled, no input is queued and no external call is running."""
        return not (self._busy or len(self._inputs) or len(self._call_pool))

    async def has_unpublished(self) -> bool:
        """Whether a committed message is not yet confirmed by the broker."""
        return await self._relay.has_unpublished()

    def stop(self) -> None:
        """Let `run` finish the current batch and return. Deliveries that are not handled by then return to their queue."""
        self._stopping.set()
        self._inputs.wake()

    async def _loop(self, background: Sequence[asyncio.Task[None]]) -> None:
        while not self._stopping.is_set():
            for task in background:
                _raise_if_ended(task)
            batch = await self._inputs.take(self.limits.batch_max)
            if batch:
                self._busy = True
                with suppress(ShutdownRequested):
                    await self._handle_isolating_suspects(batch)
                self._busy = False

    async def _shut_down(self, background: Sequence[asyncio.Task[None]]) -> None:
        for task in background:
            task.cancel()
        await asyncio.gather(*background, return_exceptions=True)
        await self._call_pool.close()
        try:
            await self._relay.flush()
        except StoreError as error:
            log.warning("published_rows_not_deleted", service=self.role.worker, error=str(error))

    async def _handle_isolating_suspects(self, inputs: Sequence[Input]) -> None:
        """Handle a batch; message by message, if it holds a suspected or known poison message."""
        report = await self._backoff.retry_until(lambda: self._poison_detector.classify(inputs), permanent=())
        if not (report.suspected_ids or report.poison_ids):
            await self.handle(inputs)
            return
        counts = {"suspected": len(report.suspected_ids), "poison": len(report.poison_ids)}
        log.warning("batch_isolated", service=self.role.worker, **counts)
        for item in inputs:
            suspect = id_of(item)
            if suspect in report.suspected_ids:
                await self._backoff.retry_until(lambda: self._poison_detector.mark_isolated(suspect), permanent=())  # noqa: B023 - awaited at once
            await self.handle([item], poison_ids=report.poison_ids)

    async def handle(self, inputs: Sequence[Input], *, poison_ids: Collection[str] = ()) -> None:
        """Run steps 2 to 7 for one batch. `poison_ids`: ids of messages to dead-letter unhandled."""
        jobs, republished = self._decoder.decode(inputs, poison_ids)
        if self._fault_injector:
            jobs, delayed = await self._fault_injector.apply(jobs)
            republished += delayed
        plan = await self._commit(jobs)
        self.on_commit(plan)
        for call, origin in plan.calls:
            injected = self._fault_injector.business_fault(origin.injected) if self._fault_injector else None
            self._call_pool.start(call, origin, injected)
        republished += self._copies_of_failed(plan)
        deliveries = [item for item in inputs if isinstance(item, Delivery)]
        self._poison_detector.mark_survived([delivery for delivery, _ in republished if id_of(delivery) not in poison_ids])
        requeued = await self._republisher.republish(republished, deliveries)
        await self.transport.ack([delivery for delivery in deliveries if delivery not in requeued])
        duplicates = self._fault_injector.duplicates(plan) if self._fault_injector else []
        await self._relay.publish(plan.outgoing + duplicates)
        self._log_handled(plan)

    def _copies_of_failed(self, plan: BatchPlan) -> list[Republished]:
        """Return the retry copies and dead letters of deliveries whose handler raised. A failed local input is left to its timer.

        If a dead letter is a compensation or a step after the pivot, the event of `on_exhausted` is added: it is confirmed, as
        the dead letter is, before the delivery is acknowledged."""
        on_exhausted = self.role.service.on_exhausted
        dead = self._republisher.topology.dead_address(self.role.worker)
        republished: list[Republished] = []
        for job, error in plan.failed:
            text = f"{type(error).__name__}: {error}"
            if not job.delivery:
                about = {"order_id": job.command.order_id, "type": job.command.type_name}
                log.warning("local_input_failed", service=self.role.worker, error=text, **about)
                continue
            copy = self._republisher.failure_copy(job, error)
            republished.append((job.delivery, copy))
            if on_exhausted and copy.address == dead and not job.is_forward and (event := on_exhausted(job.command, text)):
                republished.append((job.delivery, self._batch_handler.outgoing_for(event, job.envelope)))
        return republished

    async def _commit(self, jobs: Sequence[Job]) -> BatchPlan:
        """Run steps 3 to 5 until the outcome is known, and return the plan. Raises ShutdownRequested during a store outage."""
        look_up = any(job.delivery and job.delivery.redelivered for job in jobs)
        in_doubt = False
        attempt = 0
        while jobs:
            published = self._relay.take_published(DELETE_BATCH_ROWS)
            try:
                plan = await self.store.transact(lambda reader: self._changes_of(jobs, reader, published, look_up=look_up))  # noqa: B023
            except DuplicateInput:
                self._relay.put_back(published)
                look_up = True
            except DataRefused as error:
                self._relay.put_back(published)
                return await self._bisect(jobs, error)
            except StoreError as error:
                in_doubt = in_doubt or isinstance(error, OutcomeUnknown)
                look_up = look_up or in_doubt  # the commit may have been applied
                attempt += 1
                self._relay.put_back(published)
                await self._backoff.wait(attempt, error)
            else:
                if in_doubt:  # if an earlier attempt was applied, its messages are in the outbox and not in `plan`
                    self._relay.trigger()
                return plan
        return BatchPlan()

    async def _changes_of(
        self, jobs: Sequence[Job], reader: Reader, published: Sequence[str], *, look_up: bool
    ) -> tuple[Changes, BatchPlan]:
        changes, plan = await self._batch_handler.handle(jobs, reader, look_up=look_up)
        return Changes(changes.records, changes.inbox, changes.outbox, published), plan

    async def _bisect(self, jobs: Sequence[Job], error: DataRefused) -> BatchPlan:
        """Halve a batch that the database refuses, until the refused job is alone and only it fails."""
        if len(jobs) == 1:
            return BatchPlan(failed=[(jobs[0], error)])
        middle = len(jobs) // 2
        return (await self._commit(jobs[:middle])).join(await self._commit(jobs[middle:]))

    def _log_handled(self, plan: BatchPlan) -> None:
        for job, outcome in plan.handled:
            log.info(
                "handled",
                service=self.role.worker,
                order_id=job.command.order_id,
                message_id=job.envelope.message_id,
                type=job.command.type_name,
                published=[message.type_name for message in outcome.messages],
            )
        if plan.dropped:
            log.info("duplicates_dropped", service=self.role.worker, count=plan.dropped)


def _raise_if_ended(task: asyncio.Task[None]) -> None:
    """Stop the worker if its relay or timers have failed. Raises the task's error.

    A cancelled task counts as failed: a client library has cancelled one when its connection was lost."""
    if task.cancelled():
        raise RuntimeError(f"the task {task.get_name()} was cancelled from outside the worker")
    if task.done() and (error := task.exception()):
        raise error
