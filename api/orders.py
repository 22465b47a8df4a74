"""The API's application service: hands requests to its worker, waits until they are committed, and reads orders.

Independent of HTTP. It accepts orders also while the broker is down: their outbox rows are published once it is back.
"""

import asyncio
import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from api.documents import PAGE_SIZE, ApiOrder
from api.handlers import RequestOutcome, api_role
from api.messages import COMMIT_TIMEOUT_S, NAME, AcceptOrder, RequestWithdrawal, origin_of
from broker.limits import Limits
from broker.loop.batch import BatchPlan
from broker.message import Message
from broker.role import topology_of
from broker.topology import Topology, queue_of
from broker.transport import TransportError, declare_or_check
from broker.worker import Worker
from services.vocabulary import ObservedState, OrderDetails
from store.document import Key, Record
from store.protocol import Changes, Reader, StoreUnavailable

#: Requests that wait for their commit at most, including those whose clients have disconnected.
PENDING_MAX = 1_024
#: Seconds that a health check of the broker may take.
BROKER_CHECK_TIMEOUT_S = 1.0


class TooManyRequests(Exception):  # noqa: N818 - it names what happened
    """PENDING_MAX requests already wait for their commit."""

    why = "too many requests wait for the API's database: try again later"


class KeyInFlight(Exception):  # noqa: N818 - it names what happened
    """Another request with this key is in progress."""

    why = "another request with this key is in progress: try again later"


class CommitTimeout(Exception):  # noqa: N818 - it names what happened
    """The API's database has not answered in time. The request is in doubt: it may still be committed."""

    why = "the API's database has not answered in time"


def api_topology(prefix: str) -> Topology:
    """The API's own queue, in the mode `prefix`: bound to all events and to no command."""
    return topology_of(prefix, [api_role()])


def api_limits(limits: Limits) -> Limits:
    """The limits of the API's worker: no batch larger than a page of events."""
    return replace(limits, batch_max=min(limits.batch_max, PAGE_SIZE))


class Orders:
    """The orders of one mode. The caller runs `worker`, which has `api_role()`, `api_topology(prefix)` and `api_limits`."""

    def __init__(
        self,
        prefix: str,
        worker: Worker,
        *,
        commit_timeout_s: float = COMMIT_TIMEOUT_S,
    ) -> None:
        self._topology = api_topology(prefix)
        self.worker = worker
        worker.on_commit = self._on_commit
        self._queue = queue_of(prefix, NAME)
        self._commit_timeout_s = commit_timeout_s
        self._pending: dict[str, asyncio.Future[RequestOutcome]] = {}
        self._keys_in_flight: set[str] = set()

    async def prepare(self) -> None:
        """Open transport and store, and declare what is missing. Raises TransportError or StoreError."""
        await self.worker.transport.open()
        await declare_or_check(self.worker.transport, self._topology)
        await self.worker.store.open([])

    async def close(self) -> None:
        await self.worker.transport.close()
        await self.worker.store.close()

    # --- requests ---------------------------------------------------------------------------------------------------------

    async def place(
        self, key: str, details: OrderDetails, injected: Sequence[str], *, order_id: str | None = None
    ) -> RequestOutcome:
        """Place an order under a key, with a new id or `order_id`. Raises TooManyRequests, KeyInFlight, CommitTimeout."""
        if key in self._keys_in_flight:
            raise KeyInFlight(key)
        text = f"{details.model_dump_json()} {','.join(injected)}"
        fingerprint = hashlib.sha256(text.encode()).hexdigest()
        new_id = self.worker.environment.new_id
        order_id, request_id = order_id or new_id(), new_id()
        request = AcceptOrder(order_id=order_id, request_id=request_id, key=key, fingerprint=fingerprint, details=details)
        future = self._submit(request, request_id, injected)
        self._keys_in_flight.add(key)
        future.add_done_callback(lambda _: self._keys_in_flight.discard(key))
        return await self._await_outcome(future)

    async def withdraw(self, order_id: str) -> RequestOutcome:
        """Withdraw an order. Raises TooManyRequests, CommitTimeout."""
        request_id = self.worker.environment.new_id()
        return await self._await_outcome(
            self._submit(RequestWithdrawal(order_id=order_id, request_id=request_id), request_id, ())
        )

    def _submit(self, message: Message, request_id: str, injected: Sequence[str]) -> "asyncio.Future[RequestOutcome]":
        if len(self._pending) >= PENDING_MAX:
            raise TooManyRequests
        future: asyncio.Future[RequestOutcome] = asyncio.get_running_loop().create_future()
        self._pending[request_id] = future
        self.worker.submit(message, origin_of(message.order_id, injected))
        return future

    async def _await_outcome(self, future: "asyncio.Future[RequestOutcome]") -> RequestOutcome:
        """The outcome. Raises CommitTimeout. A client that disconnects does not cancel its request."""
        done, _ = await asyncio.wait([future], timeout=self._commit_timeout_s)
        if not done:
            raise CommitTimeout
        return future.result()

    def _on_commit(self, plan: BatchPlan) -> None:
        for job, outcome in plan.handled:
            if isinstance(outcome, RequestOutcome) and isinstance(job.command, AcceptOrder | RequestWithdrawal):
                self._pending.pop(job.command.request_id).set_result(outcome)
        for job, error in plan.failed:
            if isinstance(job.command, AcceptOrder | RequestWithdrawal):
                self._pending.pop(job.command.request_id).set_exception(error)

    # --- queries ----------------------------------------------------------------------------------------------------------

    async def get(self, order_id: str) -> ApiOrder | None:
        """One order as the API knows it, None if it is unknown. Raises StoreError."""
        record = (await self.load([ApiOrder.key_of(order_id)])).get(ApiOrder.key_of(order_id))
        return ApiOrder.from_body(record.body) if record else None

    async def newest(self, state: ObservedState | None, limit: int) -> list[ApiOrder]:
        """The newest orders. Raises StoreError."""
        where = {"state": str(state)} if state else None
        return [ApiOrder.from_body(record.body) for record in await self.worker.store.find(ApiOrder.collection, where, limit)]

    async def load(self, keys: Collection[Key]) -> Mapping[Key, Record]:
        """Documents by key, as of one moment. Raises StoreError."""

        async def read(reader: Reader) -> tuple[Changes, Mapping[Key, Record]]:
            return Changes(), await reader.load(keys)

        return await self.worker.store.transact(read)

    async def check_health(self) -> str:
        """The broker's state: `connected`, or `away` (orders wait in the outbox). Raises StoreError if the API cannot serve."""
        if not self.worker.ready.is_set():
            raise StoreUnavailable("the API has not started yet")
        await self.load([ApiOrder.key_of("")])
        try:
            async with asyncio.timeout(BROKER_CHECK_TIMEOUT_S):
                await self.worker.transport.depth(self._queue)
        except (TransportError, TimeoutError):
            return "away"
        return "connected"
