"""The simulator's ports: a worker's transport and store, and the network, each in memory and with the faults of the plan.

Transport and store wrap the in-memory implementations, keep their contracts in every failure they simulate, and record what
happens in the history.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from broker.memory.transport import MemoryTransport
from broker.topology import Topology
from broker.transport import Delivery, Outgoing, Receipt, Sink, Wire
from lab.simulation.history import SimulationHistory
from lab.simulation.plan import CrashPoint, FaultKind
from lab.simulation.process import FaultTriggers, SimulatedProcess
from lab.simulation.random_streams import Draw, Operation, RandomStreams
from store.document import Record
from store.memory import MemoryStore
from store.protocol import Changes, OutboxRow, OutcomeUnknown, Reader, StoreUnavailable, Work, WriteConflict

T = TypeVar("T")

#: The longest transit of a message that no fault delays, in seconds.
MAX_TRANSIT_S = 0.03


class SimulatedTransport:
    """`broker.transport.Transport` for one process of a worker."""

    def __init__(self, inner: MemoryTransport, process: SimulatedProcess, topology: Topology) -> None:
        self.inner = inner
        self._process = process
        self._topology = topology

    async def open(self) -> None:
        await self._process.simulate_latency(Operation.CONNECT)
        await self.inner.open()

    async def close(self) -> None:
        await self.inner.close()

    async def declare(self, topology: Topology) -> None:
        await self.inner.declare(topology)

    async def check(self, topology: Topology) -> None:
        await self.inner.check(topology)

    async def delete(self, topology: Topology) -> None:
        await self.inner.delete(topology)

    async def purge(self, topology: Topology) -> None:
        await self.inner.purge(topology)

    async def depth(self, queue: str) -> int:
        return await self.inner.depth(queue)

    async def get(self, queue: str, limit: int) -> list[Wire]:
        return await self.inner.get(queue, limit)

    async def cancel(self) -> None:
        await self.inner.cancel()

    async def consume(self, queue: str, prefetch: int, sink: Sink) -> None:
        await self._process.simulate_latency(Operation.CONSUME)
        await self.inner.consume(queue, prefetch, sink)

    async def subscribe(self, topology: Topology, patterns: Sequence[str], sink: Callable[[Wire], None]) -> None:
        await self.inner.subscribe(topology, patterns, sink)

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        await self._process.check()
        self._process.history.on_acknowledge(self._process.worker, self._topology.prefix, deliveries)
        await self.inner.ack(deliveries)
        if deliveries or self._process.commands_in_progress:
            await self._process.reach(CrashPoint.BEFORE_PUBLISH)

    async def requeue(self, deliveries: Sequence[Delivery]) -> None:
        await self._process.check()
        await self.inner.requeue(deliveries)

    async def publish(self, outgoing: Sequence[Outgoing]) -> list[Receipt]:
        await self._process.simulate_latency(Operation.PUBLISH)
        if not outgoing:
            return []
        fault = self._process.fault_triggers.next_fault(
            FaultKind.CONFIRM_LOST, FaultKind.PUBLISH_LOST, where=self._process.worker
        )
        if fault and fault.kind is FaultKind.PUBLISH_LOST:
            return self._record_publish(outgoing, [Receipt.UNKNOWN] * len(outgoing))
        receipts = await self.inner.publish(outgoing)
        self._record_publish(outgoing, receipts)
        await self._process.reach(CrashPoint.BEFORE_REMOVAL)
        return [Receipt.UNKNOWN] * len(outgoing) if fault else receipts

    def _record_publish(self, outgoing: Sequence[Outgoing], receipts: list[Receipt]) -> list[Receipt]:
        for item, receipt in zip(outgoing, receipts, strict=True):
            self._process.history.on_publish(
                self._process.name, item, receipt, is_retry_copy=self._topology.is_retry_or_dead_letter(item.address)
            )
        return receipts


class SimulatedStore:
    """`store.protocol.Store` for one process of a worker. `is_down`: whether the database does not answer now."""

    def __init__(self, inner: MemoryStore, process: SimulatedProcess, is_down: Callable[[], bool]) -> None:
        self._inner = inner
        self.process = process
        self._is_down = is_down

    async def open(self, timer_collections: Collection[str]) -> None:
        await self._reach()
        await self._inner.open(timer_collections)

    async def close(self) -> None:
        await self._inner.close()

    async def transact(self, work: Work[T]) -> T:
        await self.process.reach(CrashPoint.BEFORE_LOAD)
        await self._reach()
        fault = self.process.fault_triggers.next_fault(
            FaultKind.CONFLICT, FaultKind.COMMIT_LOST, FaultKind.COMMIT_KEPT, where=self.process.worker
        )
        if fault and fault.kind is FaultKind.CONFLICT:
            raise WriteConflict("other writes changed the same documents at every attempt")
        changes_written: list[Changes] = []

        async def decide(reader: Reader) -> tuple[Changes, T]:
            changes, result = await work(reader)
            await self.process.simulate_latency(Operation.COMMIT)
            await self.process.reach(CrashPoint.BEFORE_COMMIT)
            if self._is_down():
                raise StoreUnavailable("the database does not answer")
            if fault and fault.kind is FaultKind.COMMIT_LOST:
                raise OutcomeUnknown("the connection was lost at the commit")
            changes_written.append(changes)
            return changes, result

        result = await self._inner.transact(decide)
        self.process.history.on_commit(self.process.name, self.process.worker, changes_written[-1])
        if fault and fault.kind is FaultKind.COMMIT_KEPT:
            raise OutcomeUnknown("the connection was lost at the commit")
        await self.process.reach(CrashPoint.BEFORE_ACK)
        return result

    async def due(self, collection: str, now: float, limit: int) -> list[Record]:
        await self._reach()
        return await self._inner.due(collection, now, limit)

    async def pending_outbox(self, written_before: float, limit: int) -> list[OutboxRow]:
        await self._reach()
        return await self._inner.pending_outbox(written_before, limit)

    async def delete_published(self, published: Collection[str]) -> None:
        await self._reach()
        await self._inner.delete_published(published)

    async def find(self, collection: str, where: Mapping[str, Any] | None = None, limit: int = 0) -> list[Record]:
        return await self._inner.find(collection, where, limit)

    async def put(self, records: Collection[Record]) -> None:
        await self._reach()
        await self._inner.put(records)

    async def wipe(self) -> None:
        await self._inner.wipe()

    async def _reach(self) -> None:
        """Reach the database, after some latency. Raises StoreUnavailable while it does not answer."""
        await self.process.simulate_latency(Operation.DATABASE)
        if self._is_down():
            raise StoreUnavailable("the database does not answer")


@dataclass(slots=True)
class SimulatedNetwork:
    """Decides the order of waiting messages, how long each is in transit, and which is delayed or duplicated.

    `streams`: those of the cluster. Both kinds of draws share one counter, which is part of their names."""

    streams: RandomStreams
    fault_triggers: FaultTriggers
    history: SimulationHistory
    _message_count: int = 0

    def choose(self, waiting: int) -> int:
        """The index of the message that is delivered next, of `waiting` in a queue."""
        self._message_count += 1
        return self.streams.randrange(waiting, Draw.NEXT_MESSAGE, self._message_count) if waiting > 1 else 0

    def transfer_delays(self, outgoing: Outgoing) -> Sequence[float]:
        """After how many seconds a routed message arrives, once for each copy."""
        self.history.routed_ids.add(str(outgoing.wire.message_id))
        self._message_count += 1
        first_s = self.streams.uniform(0, MAX_TRANSIT_S, Draw.TRANSIT_TIME, self._message_count)
        delay = self.fault_triggers.next_fault(FaultKind.DELAY)
        duplicate = self.fault_triggers.next_fault(FaultKind.DUPLICATE)
        arrivals = [first_s + delay.for_s if delay else first_s]
        return [*arrivals, first_s + duplicate.for_s] if duplicate else arrivals
