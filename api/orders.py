"""The desk: hands requests to the door's worker and waits until what they asked for is safe; reads what the door knows.

Knows nothing of HTTP. What is asked while the broker is away is taken all the same: the outbox owes it.
"""

import asyncio
import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from api.documents import PAGE, KnownOrder, State
from api.handlers import Answered, door_role
from api.messages import NAME, TakeBack, TakeOrder, origin_of
from broker.limits import Limits
from broker.loop.batch import Plan
from broker.message import Message
from broker.role import topology_of
from broker.topology import Topology, queue_of
from broker.transport import TransportError, furnish
from broker.worker import Worker
from services.vocabulary import OrderDetails
from store.document import Key, Record
from store.protocol import Changes, Reader, StoreUnavailable

#: Seconds that a request waits for its commit. After that nobody knows yet; the same key asked again will tell.
PATIENCE_S = 5.0
#: Requests that wait for their commit at most, those whose callers have left included.
WAITING_MAX = 1_024
#: Seconds that a look at the broker may take.
LOOK_S = 1.0


class Busy(Exception):  # noqa: N818 - it names what happened
    """As many requests as the door takes wait for their commit already."""

    why = "too many requests wait for the door's database"


class InFlight(Exception):  # noqa: N818 - it names what happened
    """Another request with this key is being worked on."""

    why = "another request with this key is being worked on"


class NotKnownYet(Exception):  # noqa: N818 - it names what happened
    """The door's database has not answered in time: what was asked for may still come about."""

    why = "the door's database has not answered in time"


def door_topology(prefix: str) -> Topology:
    """The door's own queue beside those of the mode `prefix`: bound to all events, and to no command."""
    return topology_of(prefix, [door_role()])


def door_limits(limits: Limits) -> Limits:
    """The limits of the door's worker: no batch larger than a page of events."""
    return replace(limits, batch_max=min(limits.batch_max, PAGE))


class Desk:
    """The door of one mode, on a worker with `door_role()`, `door_topology(prefix)` and `door_limits`, which the caller runs."""

    def __init__(
        self,
        prefix: str,
        worker: Worker,
        *,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._furniture = door_topology(prefix)
        self.worker = worker
        worker.committed = self._committed
        self._queue = queue_of(prefix, NAME)
        self._patience_s = patience_s
        self._asked: dict[str, asyncio.Future[Answered]] = {}
        self._keys_in_flight: set[str] = set()

    async def prepare(self) -> None:
        """Open both ends and make what is missing. Raises what is raised when a server is missing or unsafe."""
        await self.worker.transport.open()
        await furnish(self.worker.transport, self._furniture)
        await self.worker.store.open([])

    async def close(self) -> None:
        await self.worker.transport.close()
        await self.worker.store.close()

    # --- asking -----------------------------------------------------------------------------------------------------------

    async def take(self, key: str, details: OrderDetails, injected: Sequence[str], *, order_id: str | None = None) -> Answered:
        """Hand in an order under a key, with a new id or this one. Raises Busy, InFlight, NotKnownYet."""
        if key in self._keys_in_flight:
            raise InFlight(key)
        text = f"{details.model_dump_json()} {','.join(injected)}"
        fingerprint = hashlib.sha256(text.encode()).hexdigest()
        new_id = self.worker.sources.new_id
        order_id, request_id = order_id or new_id(), new_id()
        asked = TakeOrder(order_id=order_id, request_id=request_id, key=key, fingerprint=fingerprint, details=details)
        answer = self._ask(asked, request_id, injected)
        self._keys_in_flight.add(key)
        answer.add_done_callback(lambda _: self._keys_in_flight.discard(key))
        return await self._awaited(answer)

    async def take_back(self, order_id: str) -> Answered:
        """Ask for a withdrawal. Raises Busy, NotKnownYet."""
        request_id = self.worker.sources.new_id()
        return await self._awaited(self._ask(TakeBack(order_id=order_id, request_id=request_id), request_id, ()))

    def _ask(self, message: Message, request_id: str, injected: Sequence[str]) -> "asyncio.Future[Answered]":
        if len(self._asked) >= WAITING_MAX:
            raise Busy
        answer: asyncio.Future[Answered] = asyncio.get_running_loop().create_future()
        self._asked[request_id] = answer
        self.worker.ask(message, origin_of(message.order_id, injected))
        return answer

    async def _awaited(self, answer: "asyncio.Future[Answered]") -> Answered:
        """The answer, if it comes in time. A caller who leaves does not undo what was asked for."""
        done, _ = await asyncio.wait([answer], timeout=self._patience_s)
        if not done:
            raise NotKnownYet
        return answer.result()

    def _committed(self, plan: Plan) -> None:
        for job, outcome in plan.handled:
            if isinstance(outcome, Answered) and isinstance(job.command, TakeOrder | TakeBack):
                self._asked.pop(job.command.request_id).set_result(outcome)
        for job, error in plan.failed:
            if isinstance(job.command, TakeOrder | TakeBack):
                self._asked.pop(job.command.request_id).set_exception(error)

    # --- looking ----------------------------------------------------------------------------------------------------------

    async def order(self, order_id: str) -> KnownOrder | None:
        """One order as the door knows it. Raises StoreError."""
        record = (await self.load([KnownOrder.key_of(order_id)])).get(KnownOrder.key_of(order_id))
        return KnownOrder.from_body(record.body) if record else None

    async def orders(self, state: State | None, limit: int) -> list[KnownOrder]:
        """The newest orders. Raises StoreError."""
        where = {"state": str(state)} if state else None
        return [KnownOrder.from_body(record.body) for record in await self.worker.store.find(KnownOrder.collection, where, limit)]

    async def load(self, keys: Collection[Key]) -> Mapping[Key, Record]:
        """Documents by key, as of one moment. Raises StoreError."""

        async def read(reader: Reader) -> tuple[Changes, Mapping[Key, Record]]:
            return Changes(), await reader.load(keys)

        return await self.worker.store.transact(read)

    async def check(self) -> str:
        """Whether requests are served, else StoreUnavailable. Gives how the broker is: `connected`, or `away` (orders wait)."""
        if not self.worker.ready.is_set():
            raise StoreUnavailable("the door has not started yet")
        await self.load([KnownOrder.key_of("")])
        try:
            async with asyncio.timeout(LOOK_S):
                await self.worker.transport.depth(self._queue)
        except (TransportError, TimeoutError):
            return "away"
        return "connected"
