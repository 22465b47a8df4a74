"""The ports that a worker of the simulator stands on: transport and store in memory, with the faults of the plan acting in them.

Both wrap the in-memory parts, keep their contracts in every failure they show, and tell the history.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, TypeVar

from broker.memory.transport import MemoryTransport
from broker.topology import Topology
from broker.transport import Delivery, Outgoing, Receipt, Sink, Wire
from lab.simulation.plan import Kind, Point
from lab.simulation.process import Life
from store.document import Record
from store.memory import MemoryStore
from store.protocol import Changes, OutboxRow, OutcomeUnknown, Reader, StoreUnavailable, Work, WriteConflict

T = TypeVar("T")


class SimulatedTransport:
    """`broker.transport.Transport` for one life of a worker."""

    def __init__(self, inner: MemoryTransport, life: Life, topology: Topology) -> None:
        self.inner = inner
        self._life = life
        self._topology = topology

    async def open(self) -> None:
        await self._life.take_time("connect")
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
        await self._life.take_time("consume")
        await self.inner.consume(queue, prefetch, sink)

    async def subscribe(self, topology: Topology, patterns: Sequence[str], sink: Callable[[Wire], None]) -> None:
        await self.inner.subscribe(topology, patterns, sink)

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        await self._life.check()
        self._life.history.acknowledges(self._life.worker, self._topology.prefix, deliveries)
        await self.inner.ack(deliveries)
        if deliveries or self._life.in_hand:
            await self._life.reach(Point.BEFORE_PUBLISH)

    async def requeue(self, deliveries: Sequence[Delivery]) -> None:
        await self._life.check()
        await self.inner.requeue(deliveries)

    async def publish(self, outgoing: Sequence[Outgoing]) -> list[Receipt]:
        await self._life.take_time("publish")
        if not outgoing:
            return []
        fault = self._life.occasions.strikes(Kind.CONFIRM_LOST, Kind.PUBLISH_LOST, where=self._life.worker)
        if fault and fault.kind is Kind.PUBLISH_LOST:
            return self._heard(outgoing, [Receipt.UNKNOWN] * len(outgoing))
        receipts = await self.inner.publish(outgoing)
        self._heard(outgoing, receipts)
        await self._life.reach(Point.BEFORE_REMOVAL)
        return [Receipt.UNKNOWN] * len(outgoing) if fault else receipts

    def _heard(self, outgoing: Sequence[Outgoing], receipts: list[Receipt]) -> list[Receipt]:
        for item, receipt in zip(outgoing, receipts, strict=True):
            self._life.history.sent(self._life.name, item, receipt, aside=self._topology.is_aside(item.address))
        return receipts


class SimulatedStore:
    """`store.protocol.Store` for one life of a worker. `down` is set while the database does not answer."""

    def __init__(self, inner: MemoryStore, life: Life, is_down: Callable[[], bool]) -> None:
        self._inner = inner
        self.life = life
        self._is_down = is_down

    async def open(self, due_in: Collection[str]) -> None:
        await self._reach()
        await self._inner.open(due_in)

    async def close(self) -> None:
        await self._inner.close()

    async def transact(self, work: Work[T]) -> T:
        await self.life.reach(Point.BEFORE_LOAD)
        await self._reach()
        fault = self.life.occasions.strikes(Kind.CONFLICT, Kind.COMMIT_LOST, Kind.COMMIT_KEPT, where=self.life.worker)
        if fault and fault.kind is Kind.CONFLICT:
            raise WriteConflict("others kept writing")
        wanted: list[Changes] = []

        async def decided(reader: Reader) -> tuple[Changes, T]:
            changes, result = await work(reader)
            await self.life.take_time("commit")
            await self.life.reach(Point.BEFORE_COMMIT)
            if self._is_down():
                raise StoreUnavailable("the database does not answer")
            if fault and fault.kind is Kind.COMMIT_LOST:
                raise OutcomeUnknown("the connection was lost at the commit")
            wanted.append(changes)
            return changes, result

        result = await self._inner.transact(decided)
        self.life.history.committed(self.life.name, self.life.worker, wanted[-1])
        if fault and fault.kind is Kind.COMMIT_KEPT:
            raise OutcomeUnknown("the connection was lost at the commit")
        await self.life.reach(Point.BEFORE_ACK)
        return result

    async def due(self, collection: str, now: float, limit: int) -> list[Record]:
        await self._reach()
        return await self._inner.due(collection, now, limit)

    async def owed(self, written_before: float, limit: int) -> list[OutboxRow]:
        await self._reach()
        return await self._inner.owed(written_before, limit)

    async def forget(self, sent: Collection[str]) -> None:
        await self._reach()
        await self._inner.forget(sent)

    async def find(self, collection: str, where: Mapping[str, Any] | None = None, limit: int = 0) -> list[Record]:
        return await self._inner.find(collection, where, limit)

    async def put(self, records: Collection[Record]) -> None:
        await self._reach()
        await self._inner.put(records)

    async def wipe(self) -> None:
        await self._inner.wipe()

    async def _reach(self) -> None:
        """Get through to the database."""
        await self.life.take_time("database")
        if self._is_down():
            raise StoreUnavailable("the database does not answer")
