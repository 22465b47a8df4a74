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
not published is in the outbox and meets the relay. Steps 3 to 5 are `Decider` inside `Store.transact`.
"""

import asyncio
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress

import structlog

from broker.backoff import Patience, Stopped
from broker.codec import DeadReason, Envelope, Origin, Undecodable, decode, misrouted
from broker.environment import Sources
from broker.handler import Call
from broker.limits import Limits
from broker.loop.batch import Decider, Job, Plan
from broker.loop.external_calls import Caller, CallPool
from broker.loop.fault_injection import Injection, die
from broker.loop.inputs import Input, Intake, Local
from broker.loop.outbox_relay import REMOVED_AT_ONCE, Relay
from broker.loop.poison import Suspects, id_of
from broker.loop.retry import Aside, Parcel
from broker.loop.timers import watch
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
        sources: Sources | None = None,
        caller: Caller = no_calls,
        limits: Limits | None = None,
        faults: bool = False,
        die: Callable[[], None] = die,
        committed: Callable[[Plan], None] = lambda _: None,
    ) -> None:
        self.role = role
        self.transport = transport
        self.store = store
        self.sources = sources or Sources()
        self.limits = limits or Limits()
        #: Set once it consumes.
        self.ready = asyncio.Event()
        self._queue = queue_of(topology.prefix, role.worker)
        self._ways = {name: topology.ways(name, role.worker) for name in role.types}
        self._intake = Intake()
        self._decider = Decider(role, topology, self.sources)
        self._aside = Aside(transport, topology, role.worker, self.sources)
        self._injection = Injection(role.service, store, self._aside, slow_s=self.limits.slow_s, die=die) if faults else None
        self._suspects = Suspects(store, self._decider.inbox_key)
        self._calls = CallPool(caller, self._intake, most=self.limits.calls_max)
        self._relay = Relay(
            role.worker,
            transport,
            store,
            self.sources,
            interval_s=self.limits.relay_interval_s,
            after_s=self.limits.relay_after_s,
        )
        #: Called with the plan of each batch after its commit. To be set before `run`.
        self.committed = committed
        self._stopping = asyncio.Event()
        self._patience = Patience(role.worker, self.sources, self._stopping)
        self._handling = False

    async def run(self) -> None:
        """Open both ends, then loop until `stop`. Raises what cannot be waited out (an unsafe store, a missing queue)."""
        try:
            await self._patience.insist(lambda: self.store.open([wait.kind.collection for wait in self.role.service.watches]))
            await self._patience.insist(self.transport.open)
            await self._patience.insist(lambda: self.transport.consume(self._queue, self.limits.prefetch, self._intake.put))
        except Stopped:
            return
        log.info("started", service=self.role.worker, queue=self._queue, faults=self._injection is not None)
        self.ready.set()
        background = [
            asyncio.create_task(self._relay.run(), name=f"{self.role.worker}.relay"),
            asyncio.create_task(
                watch(self.role, self.store, self._intake, self.sources, self.limits.watch_interval_s),
                name=f"{self.role.worker}.watch",
            ),
        ]
        for task in background:
            task.add_done_callback(lambda _: self._intake.wake())
        try:
            await self._loop(background)
        finally:
            await self._wind_down(background)

    def ask(self, message: Message, origin: Origin) -> None:
        """An input from inside this process, as a request at the door is; `committed` is told what came of it."""
        self._intake.put(Local(message, origin))

    @property
    def idle(self) -> bool:
        """Nothing in hand, nothing waiting here, no call under way."""
        return not (self._handling or len(self._intake) or len(self._calls))

    async def owes(self) -> bool:
        """Whether a message of an earlier commit still has to be published."""
        return await self._relay.owes()

    def stop(self) -> None:
        """Finish the batch in hand, then return from `run`. What was not begun goes back to its queue."""
        self._stopping.set()
        self._intake.wake()

    async def _loop(self, background: Sequence[asyncio.Task[None]]) -> None:
        while not self._stopping.is_set():
            for task in background:
                _raise_if_dead(task)
            batch = await self._intake.take(self.limits.batch_max)
            if batch:
                self._handling = True
                with suppress(Stopped):
                    await self._handle_with_care(batch)
                self._handling = False

    async def _wind_down(self, background: Sequence[asyncio.Task[None]]) -> None:
        for task in background:
            task.cancel()
        await asyncio.gather(*background, return_exceptions=True)
        await self._calls.close()
        try:
            await self._relay.flush()
        except StoreError as error:
            log.warning("rows_left_for_relay", service=self.role.worker, error=str(error))

    async def _handle_with_care(self, inputs: Sequence[Input]) -> None:
        """One batch; one by one, if something in it is suspected of having killed a worker."""
        verdict = await self._patience.insist(lambda: self._suspects.judge(inputs), but=())
        if not (verdict.suspects or verdict.killers):
            await self.handle(inputs)
            return
        log.warning("one_by_one", service=self.role.worker, suspects=len(verdict.suspects), killers=len(verdict.killers))
        for item in inputs:
            suspect = id_of(item)
            if suspect in verdict.suspects:
                await self._patience.insist(lambda: self._suspects.mark_alone(suspect), but=())  # noqa: B023 - awaited at once
            await self.handle([item], killers=verdict.killers)

    async def handle(self, inputs: Sequence[Input], *, killers: Collection[str] = ()) -> None:
        """Steps 2 to 7 for one batch. `killers`: ids of messages that must not be touched any more."""
        jobs, parcels = self._decode(inputs, killers)
        if self._injection:
            jobs, late = await self._injection.suffer(jobs)
            parcels += late
        plan = await self._commit(jobs)
        self.committed(plan)
        for call, origin in plan.calls:
            injected = self._injection.of_the_business(origin.injected) if self._injection else None
            self._calls.start(call, origin, injected)
        parcels += self._put_aside(plan)
        deliveries = [item for item in inputs if isinstance(item, Delivery)]
        self._suspects.outlived([delivery for delivery, _ in parcels if id_of(delivery) not in killers])
        back = await self._aside.put(parcels, deliveries)
        await self.transport.ack([delivery for delivery in deliveries if delivery not in back])
        doubled = self._injection.doubled(plan) if self._injection else []
        await self._relay.publish(plan.outgoing + doubled)
        self._tell(plan)

    def _put_aside(self, plan: Plan) -> list[Parcel]:
        """What becomes of messages whose handler raised. A local input has no copy to put aside: its wait brings it again.

        What must not fail and is now a dead letter is told to whoever leads the order, before it is acknowledged."""
        tell = self.role.service.gives_up
        dead = self._aside.topology.dead_address(self.role.worker)
        parcels: list[Parcel] = []
        for job, error in plan.failed:
            text = f"{type(error).__name__}: {error}"
            if not job.delivery:
                about = {"order_id": job.command.order_id, "type": job.command.type_name}
                log.warning("local_input_failed", service=self.role.worker, error=text, **about)
                continue
            copy = self._aside.failed(job, error)
            parcels.append((job.delivery, copy))
            if tell and copy.address == dead and not job.is_forward and (event := tell(job.command, text)):
                parcels.append((job.delivery, self._decider.addressed(event, job.envelope)))
        return parcels

    def _decode(self, inputs: Sequence[Input], killers: Collection[str]) -> tuple[list[Job], list[Parcel]]:
        """Step 2: what can be handled, and what goes to the dead letters."""
        jobs: list[Job] = []
        dead: list[Parcel] = []
        for item in inputs:
            if isinstance(item, Local):
                envelope = Envelope(item.message, item.origin.causation_id or "", item.origin)
                jobs.append(self._decider.job_of(None, envelope, item.message, faults=self._injection is not None))
                continue
            try:
                envelope = self._read(item, killers)
            except Undecodable as error:
                attempts = 3 if error.reason is DeadReason.KILLS_ITS_WORKER else 1
                dead.append((item, self._aside.dead(item, error.reason, str(error), attempts)))
                continue
            command = self.role.accepts[type(envelope.message)](envelope.message)
            jobs.append(self._decider.job_of(item, envelope, command, faults=self._injection is not None))
        return jobs, dead

    def _read(self, delivery: Delivery, killers: Collection[str]) -> Envelope:
        """The way it came by is looked at first: what is refused for another reason may be sent back to work one day. Raises
        Undecodable."""
        ways = self._ways.get(delivery.wire.type or "")
        if ways and (delivery.exchange, delivery.routing_key) not in ways:
            raise misrouted(delivery.wire, delivery.exchange, delivery.routing_key)
        if killers and id_of(delivery) in killers:
            raise Undecodable(DeadReason.KILLS_ITS_WORKER, "alone in hand when its worker died")
        return decode(delivery.wire, self.role.types)

    async def _commit(self, jobs: Sequence[Job]) -> Plan:
        """Steps 3 to 5, until the outcome is known. Gives what follows the commit. Raises Stopped if that may take for ever."""
        look_up = any(job.delivery and job.delivery.redelivered for job in jobs)
        in_doubt = False
        attempt = 0
        while jobs:
            sent = self._relay.take_sent(REMOVED_AT_ONCE)
            try:
                plan = await self.store.transact(lambda reader: self._decide(jobs, reader, sent, look_up=look_up))  # noqa: B023
            except DuplicateInput:
                self._relay.put_back(sent)
                look_up = True
            except DataRefused as error:
                self._relay.put_back(sent)
                return await self._take_apart(jobs, error)
            except StoreError as error:
                in_doubt = in_doubt or isinstance(error, OutcomeUnknown)
                look_up = look_up or in_doubt  # it may have been written: ask the inbox
                attempt += 1
                self._relay.put_back(sent)
                await self._patience.wait(attempt, error)
            else:
                if in_doubt:  # if it had been written, its outcomes are in the outbox and nobody else will publish them soon
                    self._relay.hurry()
                return plan
        return Plan()

    async def _decide(self, jobs: Sequence[Job], reader: Reader, sent: Sequence[str], *, look_up: bool) -> tuple[Changes, Plan]:
        changes, plan = await self._decider.decide(jobs, reader, look_up=look_up)
        return Changes(changes.records, changes.inbox, changes.outbox, sent), plan

    async def _take_apart(self, jobs: Sequence[Job], error: DataRefused) -> Plan:
        """The database refuses something in this batch: halve it until the poison stands alone and costs only itself."""
        if len(jobs) == 1:
            return Plan(failed=[(jobs[0], error)])
        middle = len(jobs) // 2
        return (await self._commit(jobs[:middle])).join(await self._commit(jobs[middle:]))

    def _tell(self, plan: Plan) -> None:
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


def _raise_if_dead(task: asyncio.Task[None]) -> None:
    """A long-lived task must never die in silence: the relay and the watch take their worker down with them.

    One that was cancelled and not by us (a client's library did that when its connection was lost) is dead too."""
    if task.cancelled():
        raise RuntimeError(f"{task.get_name()} was cancelled from outside")
    if task.done() and (error := task.exception()):
        raise error
