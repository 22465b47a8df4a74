"""Workers with a bug in the loop: what the simulator must notice if the loop ever became like this.

Each is the product's worker with one thing done wrong, by subclass or by another part put in its place;
the product has no switch for any of them.
"""

import asyncio
import dataclasses
from collections.abc import Sequence
from typing import Any

from broker.loop.batch import BatchHandler, BatchPlan, Job
from broker.loop.inputs import Input
from broker.loop.outbox_relay import OutboxRelay
from broker.topology import Address, Topology
from broker.transport import Delivery, Outgoing
from broker.worker import Worker
from store.document import Record
from store.protocol import Changes, OutcomeUnknown, Reader, Work


class AcknowledgesFirst(Worker):
    """Acknowledge before commit."""

    async def handle(self, inputs: Sequence[Input]) -> None:
        await self.transport.ack([item for item in inputs if isinstance(item, Delivery)])
        await super().handle(inputs)


class _NoOutbox(BatchHandler):
    async def handle(self, jobs: Sequence[Job], reader: Reader, *, look_up: bool) -> tuple[Changes, BatchPlan]:
        changes, plan = await super().handle(jobs, reader, look_up=look_up)
        return dataclasses.replace(changes, outbox=()), plan


class OutboxOff(Worker):
    """Publish after the commit without having written down what is owed."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._batch_handler = _NoOutbox(self.role, args[1], self.environment)


class _NoInbox(BatchHandler):
    async def handle(self, jobs: Sequence[Job], reader: Reader, *, look_up: bool) -> tuple[Changes, BatchPlan]:
        changes, plan = await super().handle(jobs, reader, look_up=False)
        return dataclasses.replace(changes, inbox=()), plan


class InboxOff(Worker):
    """Remember nothing of what was handled."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._batch_handler = _NoInbox(self.role, args[1], self.environment)


class PublishesInTheTransaction(Worker):
    """Publish in the callback of the transaction, which may run again or come to nothing."""

    async def _changes_of(
        self, jobs: Sequence[Job], reader: Reader, published: Sequence[str], *, look_up: bool
    ) -> tuple[Changes, BatchPlan]:
        changes, plan = await super()._changes_of(jobs, reader, published, look_up=look_up)
        await self.transport.publish(plan.outgoing)
        return changes, plan


class _DeafRelay(OutboxRelay):
    async def run(self) -> None:
        await asyncio.Event().wait()


class NoRelay(Worker):
    """What was not published right after its commit is never published."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._relay.__class__ = _DeafRelay


class _StubbornRelay(OutboxRelay):
    async def run(self) -> None:
        while True:
            try:
                await super().run()
            except asyncio.CancelledError:
                await asyncio.sleep(0)


class SwallowsCancellation(Worker):
    """A background task that catches its own cancellation: the worker never ends."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._relay.__class__ = _StubbornRelay


class _OptionalTopology:
    """A topology whose messages need no reader."""

    def __init__(self, inner: Topology) -> None:
        self._inner = inner

    def address_of(self, kind: Any) -> Address:
        return dataclasses.replace(self._inner.address_of(kind), mandatory=False)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class NotMandatory(Worker):
    """Publish without the mandatory flag: what no queue takes is confirmed and gone."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._batch_handler = BatchHandler(self.role, _OptionalTopology(args[1]), self.environment)  # type: ignore[arg-type]


class _UnsureStore:
    """Takes a commit of unknown outcome for one that failed, and does everything again as if it were new."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    async def transact(self, work: Work[Any]) -> Any:
        try:
            return await self._inner.transact(work)
        except OutcomeUnknown:

            async def as_if_new(reader: Reader) -> tuple[Changes, Any]:
                changes, result = await work(reader)
                return dataclasses.replace(changes, inbox=()), result

            return await self._inner.transact(as_if_new)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class UnknownTakenAsFailure(Worker):
    """A commit of unknown outcome is taken as failure and made anew."""

    def __init__(self, role: Any, topology: Any, transport: Any, store: Any, **kwargs: Any) -> None:
        super().__init__(role, topology, transport, _UnsureStore(store), **kwargs)


class _TimersInMemory:
    """Wakes up for what this process has seen being written; what waited before it was started is forgotten."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self._written: set[str] = set()

    async def transact(self, work: Work[Any]) -> Any:
        async def remembered(reader: Reader) -> tuple[Changes, Any]:
            changes, result = await work(reader)
            self._written.update(record.document_id for record in changes.records)
            return changes, result

        return await self._inner.transact(remembered)

    async def due(self, collection: str, now: float, limit: int) -> list[Record]:
        found = await self._inner.due(collection, now, limit)
        return [record for record in found if record.document_id in self._written]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class TimersInMemory(Worker):
    """Waits that live in the process."""

    def __init__(self, role: Any, topology: Any, transport: Any, store: Any, **kwargs: Any) -> None:
        super().__init__(role, topology, transport, _TimersInMemory(store), **kwargs)


class _AnotherClock:
    """Asks for what is due by a clock that is a day ahead."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    async def due(self, collection: str, now: float, limit: int) -> list[Record]:
        found: list[Record] = await self._inner.due(collection, now + 86_400, limit)
        return found

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class WatchesAnotherClock(Worker):
    """Waits are set by one clock and looked for by another."""

    def __init__(self, role: Any, topology: Any, transport: Any, store: Any, **kwargs: Any) -> None:
        super().__init__(role, topology, transport, _AnotherClock(store), **kwargs)  # type: ignore[arg-type]


class BelievesItsOutbox(Worker):
    """Takes a publish without a confirm for done."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._relay.__class__ = _Credulous


class _Credulous(OutboxRelay):
    async def publish(self, outgoing: Sequence[Outgoing]) -> None:
        if outgoing:
            await self._transport.publish(outgoing)
            self._published.update(dict.fromkeys(str(item.wire.message_id) for item in outgoing))
