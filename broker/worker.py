"""The worker loop, the one that every worker of both modes runs: group commit.

Everything that is here now is handled as one batch and committed as one transaction:

    1. take      every input already here, up to batch_max; never wait for a fuller batch
    2. decode    what cannot be decoded, or came by another routing key than its type, goes to the dead letters and blocks nothing
    3. load      the documents the batch names, one query a collection
    4. decide    run the handlers: pure functions, nobody waits for the outside
    5. commit    documents, inbox, outbox and the removal of published outbox rows, in one transaction
    6. ack       the outbox owns the outcomes now, so the broker need not remember the inputs
    7. publish   all outcomes at once, confirms awaited together; what is not confirmed stays for the relay

A crash between any two of these loses and doubles nothing: what was not acknowledged comes again and meets the inbox, what was
not published is in the outbox and meets the relay. Steps 3 to 5 are `BatchHandler` inside `Store.transact`.
"""

import asyncio
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress

import structlog

from broker.backoff import Backoff, ShutdownRequested
from broker.codec import DeadReason, Envelope, Origin, Undecodable, decode, misrouted
from broker.environment import Environment
from broker.handler import Call
from broker.limits import Limits
from broker.loop.batch import BatchHandler, BatchPlan, Job
from broker.loop.external_calls import Caller, CallPool
from broker.loop.fault_injection import FaultInjector, crash
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
    """The caller of a worker whose service never calls the outside."""
    raise LookupError(f"this worker makes no calls, but was asked for {call!r} ({injected})")


class Worker:
    """One worker: a role, a transport, a store. `run` until `stop`; several may run the same role side by side."""

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
        self.environment = environment or Environment()
        self.limits = limits or Limits()
        #: Set once it consumes.
        self.ready = asyncio.Event()
        self._queue = queue_of(topology.prefix, role.worker)
        self._allowed_routes = {name: topology.allowed_routes(name, role.worker) for name in role.types}
        self._inputs = InputQueue()
        self._batch_handler = BatchHandler(role, topology, self.environment)
        self._republisher = Republisher(transport, topology, role.worker, self.environment)
        self._fault_injector = (
            FaultInjector(role.service, store, self._republisher, slow_s=self.limits.slow_s, crash=crash) if faults else None
        )
        self._poison_detector = PoisonDetector(store, self._batch_handler.inbox_key)
        self._call_pool = CallPool(caller, self._inputs, limit=self.limits.calls_max)
        self._relay = OutboxRelay(
            role.worker,
            transport,
            store,
            self.environment,
            interval_s=self.limits.relay_interval_s,
            after_s=self.limits.relay_after_s,
        )
        #: Called with the plan of each batch after its commit. To be set before `run`.
        self.on_commit = on_commit
        self._stopping = asyncio.Event()
        self._backoff = Backoff(role.worker, self.environment, self._stopping)
        self._busy = False

    async def run(self) -> None:
        """Open both ends, then loop until `stop`. Raises what cannot be waited out (an unsafe store, a missing queue)."""
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
                name=f"{self.role.worker}.watch",
            ),
        ]
        for task in background:
            task.add_done_callback(lambda _: self._inputs.wake())
        try:
            await self._loop(background)
        finally:
            await self._shut_down(background)

    def submit(self, message: Message, origin: Origin) -> None:
        """An input from inside this process, as a request at the door is; `on_commit` is told what came of it."""
        self._inputs.put(LocalInput(message, origin))

    @property
    def idle(self) -> bool:
        """Nothing in hand, nothing waiting here, no call under way."""
        return not (self._busy or len(self._inputs) or len(self._call_pool))

    async def has_unpublished(self) -> bool:
        """Whether a message of an earlier commit still has to be published."""
        return await self._relay.has_unpublished()

    def stop(self) -> None:
        """Finish the batch in hand, then return from `run`. What was not begun goes back to its queue."""
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
            log.warning("rows_left_for_relay", service=self.role.worker, error=str(error))

    async def _handle_isolating_suspects(self, inputs: Sequence[Input]) -> None:
        """One batch; one by one, if something in it is suspected of having killed a worker."""
        report = await self._backoff.retry_until(lambda: self._poison_detector.classify(inputs), permanent=())
        if not (report.suspected_ids or report.poison_ids):
            await self.handle(inputs)
            return
        log.warning(
            "one_by_one", service=self.role.worker, suspected_ids=len(report.suspected_ids), poison_ids=len(report.poison_ids)
        )
        for item in inputs:
            suspect = id_of(item)
            if suspect in report.suspected_ids:
                await self._backoff.retry_until(lambda: self._poison_detector.mark_isolated(suspect), permanent=())  # noqa: B023 - awaited at once
            await self.handle([item], poison_ids=report.poison_ids)

    async def handle(self, inputs: Sequence[Input], *, poison_ids: Collection[str] = ()) -> None:
        """Steps 2 to 7 for one batch. `poison_ids`: ids of messages that must not be touched any more."""
        jobs, republished = self._decode(inputs, poison_ids)
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
        """What becomes of messages whose handler raised. A local input has no copy to put aside: its wait brings it again.

        What must not fail and is now a dead letter is told to whoever leads the order, before it is acknowledged."""
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

    def _decode(self, inputs: Sequence[Input], poison_ids: Collection[str]) -> tuple[list[Job], list[Republished]]:
        """Step 2: what can be handled, and what goes to the dead letters."""
        jobs: list[Job] = []
        dead: list[Republished] = []
        for item in inputs:
            if isinstance(item, LocalInput):
                envelope = Envelope(item.message, item.origin.causation_id or "", item.origin)
                jobs.append(self._batch_handler.job_of(None, envelope, item.message, faults=self._fault_injector is not None))
                continue
            try:
                envelope = self._read(item, poison_ids)
            except Undecodable as error:
                attempts = 3 if error.reason is DeadReason.POISON_MESSAGE else 1
                dead.append((item, self._republisher.dead_letter_copy(item, error.reason, str(error), attempts)))
                continue
            command = self.role.accepts[type(envelope.message)](envelope.message)
            jobs.append(self._batch_handler.job_of(item, envelope, command, faults=self._fault_injector is not None))
        return jobs, dead

    def _read(self, delivery: Delivery, poison_ids: Collection[str]) -> Envelope:
        """The way it came by is looked at first: what is refused for another reason may be sent back to work one day. Raises
        Undecodable."""
        allowed_routes = self._allowed_routes.get(delivery.wire.type or "")
        if allowed_routes and (delivery.exchange, delivery.routing_key) not in allowed_routes:
            raise misrouted(delivery.wire, delivery.exchange, delivery.routing_key)
        if poison_ids and id_of(delivery) in poison_ids:
            raise Undecodable(DeadReason.POISON_MESSAGE, "alone in hand when its worker died")
        return decode(delivery.wire, self.role.types)

    async def _commit(self, jobs: Sequence[Job]) -> BatchPlan:
        """Steps 3 to 5, until the outcome is known. Gives what follows the commit. Raises Stopped if that may take for ever."""
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
                look_up = look_up or in_doubt  # it may have been written: ask the inbox
                attempt += 1
                self._relay.put_back(published)
                await self._backoff.wait(attempt, error)
            else:
                if in_doubt:  # if it had been written, its outcomes are in the outbox and nobody else will publish them soon
                    self._relay.trigger()
                return plan
        return BatchPlan()

    async def _changes_of(
        self, jobs: Sequence[Job], reader: Reader, published: Sequence[str], *, look_up: bool
    ) -> tuple[Changes, BatchPlan]:
        changes, plan = await self._batch_handler.handle(jobs, reader, look_up=look_up)
        return Changes(changes.records, changes.inbox, changes.outbox, published), plan

    async def _bisect(self, jobs: Sequence[Job], error: DataRefused) -> BatchPlan:
        """The database refuses something in this batch: halve it until the poison stands alone and costs only itself."""
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
    """A long-lived task must never die in silence: the relay and the watch take their worker down with them.

    One that was cancelled and not by us (a client's library did that when its connection was lost) is dead too."""
    if task.cancelled():
        raise RuntimeError(f"{task.get_name()} was cancelled from outside")
    if task.done() and (error := task.exception()):
        raise error
