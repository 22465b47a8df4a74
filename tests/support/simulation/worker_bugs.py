"""Workers with one bug in the loop each, which the simulator must find.

Each is a subclass of the product's worker, or the product's worker with one part replaced; the product has no switch for any of
them.
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
    """Publish after the commit without outbox rows."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._batch_handler = _NoOutbox(self.role, args[1], self.environment)


class _NoInbox(BatchHandler):
    async def handle(self, jobs: Sequence[Job], reader: Reader, *, look_up: bool) -> tuple[Changes, BatchPlan]:
        changes, plan = await super().handle(jobs, reader, look_up=False)
        return dataclasses.replace(changes, inbox=()), plan


class InboxOff(Worker):
    """Commit no inbox keys and look none up."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._batch_handler = _NoInbox(self.role, args[1], self.environment)


class PublishesInTheTransaction(Worker):
    """Publish in the callback of the transaction, which may be repeated or aborted."""

    async def _changes_of(
        self, jobs: Sequence[Job], reader: Reader, published: Sequence[str], *, look_up: bool
    ) -> tuple[Changes, BatchPlan]:
        changes, plan = await super()._changes_of(jobs, reader, published, look_up=look_up)
        await self.transport.publish(plan.outgoing)
        return changes, plan


class _IdleRelay(OutboxRelay):
    async def run(self) -> None:
        await asyncio.Event().wait()


class NoRelay(Worker):
    """Never publish a message that was not published right after its commit."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._relay.__class__ = _IdleRelay


class _UncancellableRelay(OutboxRelay):
    async def run(self) -> None:
        while True:
            try:
                await super().run()
            except asyncio.CancelledError:
                await asyncio.sleep(0)


class SwallowsCancellation(Worker):
    """Catch the cancellation of a background task, so that the worker never ends."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._relay.__class__ = _UncancellableRelay


class _OptionalTopology:
    """A topology without the mandatory flag."""

    def __init__(self, inner: Topology) -> None:
        self._inner = inner

    def address_of(self, kind: Any) -> Address:
        return dataclasses.replace(self._inner.address_of(kind), mandatory=False)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class NotMandatory(Worker):
    """Publish without the mandatory flag, so that a message without a queue is confirmed and lost."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._batch_handler = BatchHandler(self.role, _OptionalTopology(args[1]), self.environment)  # type: ignore[arg-type]


class _RepeatingStore:
    """A store that takes a commit of unknown outcome for a failure and commits again without inbox keys."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    async def transact(self, work: Work[Any]) -> Any:
        try:
            return await self._inner.transact(work)
        except OutcomeUnknown:

            async def without_inbox(reader: Reader) -> tuple[Changes, Any]:
                changes, result = await work(reader)
                return dataclasses.replace(changes, inbox=()), result

            return await self._inner.transact(without_inbox)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class UnknownTakenAsFailure(Worker):
    """Take a commit of unknown outcome for a failure and repeat it."""

    def __init__(self, role: Any, topology: Any, transport: Any, store: Any, **kwargs: Any) -> None:
        super().__init__(role, topology, transport, _RepeatingStore(store), **kwargs)


class _TimersInMemory:
    """A store whose timers fire only for documents written through it."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self._written: set[str] = set()

    async def transact(self, work: Work[Any]) -> Any:
        async def recorded(reader: Reader) -> tuple[Changes, Any]:
            changes, result = await work(reader)
            self._written.update(record.document_id for record in changes.records)
            return changes, result

        return await self._inner.transact(recorded)

    async def due(self, collection: str, now: float, limit: int) -> list[Record]:
        found = await self._inner.due(collection, now, limit)
        return [record for record in found if record.document_id in self._written]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class TimersInMemory(Worker):
    """Keep timers in the process, so that those set before its start never fire."""

    def __init__(self, role: Any, topology: Any, transport: Any, store: Any, **kwargs: Any) -> None:
        super().__init__(role, topology, transport, _TimersInMemory(store), **kwargs)


class _FastClockStore:
    """A store whose timers fire by a clock that is a day ahead."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    async def due(self, collection: str, now: float, limit: int) -> list[Record]:
        found: list[Record] = await self._inner.due(collection, now + 86_400, limit)
        return found

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class UsesAnotherClockForTimers(Worker):
    """Set timers by one clock and let them fire by another."""

    def __init__(self, role: Any, topology: Any, transport: Any, store: Any, **kwargs: Any) -> None:
        super().__init__(role, topology, transport, _FastClockStore(store), **kwargs)  # type: ignore[arg-type]


class IgnoresConfirms(Worker):
    """Take an unconfirmed publish for a confirmed one."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._relay.__class__ = _TrustingRelay


class _TrustingRelay(OutboxRelay):
    async def publish(self, outgoing: Sequence[Outgoing]) -> None:
        if outgoing:
            await self._transport.publish(outgoing)
            self._published.update(dict.fromkeys(str(item.wire.message_id) for item in outgoing))
