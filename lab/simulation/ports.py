"""The ports that a worker of the simulator stands on: transport and store in memory, with the faults of the plan acting in them.

Both wrap the in-memory parts, keep their contracts in every failure they show, and tell the history.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, TypeVar

from broker.memory.transport import MemoryTransport
from broker.topology import Topology
from broker.transport import Delivery, Outgoing, Receipt, Sink, Wire
from lab.simulation.plan import CrashPoint, FaultKind
from lab.simulation.process import SimulatedProcess
from store.document import Record
from store.memory import MemoryStore
from store.protocol import Changes, OutboxRow, OutcomeUnknown, Reader, StoreUnavailable, Work, WriteConflict

T = TypeVar("T")


class SimulatedTransport:
    """`broker.transport.Transport` for one life of a worker."""

    def __init__(self, inner: MemoryTransport, process: SimulatedProcess, topology: Topology) -> None:
        self.inner = inner
        self._process = process
        self._topology = topology

    async def open(self) -> None:
        await self._process.simulate_latency("connect")
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
        await self._process.simulate_latency("consume")
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
        await self._process.simulate_latency("publish")
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
    """`store.protocol.Store` for one life of a worker. `down` is set while the database does not answer."""

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
            raise WriteConflict("others kept writing")
        changes_written: list[Changes] = []

        async def decide(reader: Reader) -> tuple[Changes, T]:
            changes, result = await work(reader)
            await self.process.simulate_latency("commit")
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
        """Get through to the database."""
        await self.process.simulate_latency("database")
        if self._is_down():
            raise StoreUnavailable("the database does not answer")
