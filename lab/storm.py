"""The storm: places many orders, some with injected faults, measures the time to their committed end, audits and reports.

How it measures: the clock of an order starts before it is sent (with a rate, when it was due to be sent) and stops at its
terminal business state. An order that does not end has an infinite latency and stays in the percentiles. The audit is part of
every report. Injected faults are compared with those that were observed to act. A hash of (seed, fault, number of the order)
selects the orders that fail, so both modes and every repetition fail the same ones.
"""

import asyncio
import math
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from api.broker_client import BrokerOrderClient, OrderNotConfirmed
from api.http_client import HttpOrderClient
from api.sample_orders import SKUS, LoadPlan
from bootstrap.backend import Backend
from bootstrap.modes import Mode, topology
from broker.transport import Receipt, Transport, Wire, declare_or_check
from ops.audit import Audit, audit
from ops.dead_letters import dead_letters
from ops.order_status import orders_needing_attention
from ops.snapshot import Snapshot, take_snapshot
from ops.stock import top_up
from services.message_types import FINAL_EVENTS, INVENTORY, ORDER
from services.order.domain import Order, OrderState
from services.order.messages import PlaceOrder
from store.protocol import Store

#: Orders in one batch at most.
SEND_AT_ONCE = 64
#: Seconds without an order that ends, after which the order database is polled in case an event was missed.
POLL_AFTER_S = 5.0


@dataclass(slots=True)
class SentOrder:
    """One order of the storm. Times are in seconds of the monotonic clock. `ended_at` is infinite until the order has ended."""

    order_id: str
    injected: tuple[str, ...]
    started_at: float
    ended_at: float = math.inf

    @property
    def seconds(self) -> float:
        return self.ended_at - self.started_at


@dataclass(frozen=True, slots=True)
class StormReport:
    """The result of a storm. `rejected`: reason -> count. `injected`, `observed`: fault -> orders with it, and on which it acted.

    `needs_attention`: unfinished orders that cannot end without an operator."""

    mode: Mode
    plan: LoadPlan
    sent_orders: Sequence[SentOrder]
    seconds: float
    completed: int
    rejected: Mapping[str, int]
    needs_attention: int
    injected: Mapping[str, int]
    observed: Mapping[str, int]
    audit: Audit

    @property
    def unfinished(self) -> int:
        return sum(math.isinf(sent_order.ended_at) for sent_order in self.sent_orders)

    @property
    def ok(self) -> bool:
        return self.audit.ok and not self.unfinished


def percentile_ms(sent_orders: Sequence[SentOrder], percent: float) -> float | None:
    """The latency in ms that `percent` of the orders do not exceed (nearest rank). None if infinite or without orders."""
    ranked = sorted(sent_order.seconds for sent_order in sent_orders)
    if not ranked:
        return None
    value = ranked[max(0, math.ceil(percent / 100 * len(ranked)) - 1)]
    return None if math.isinf(value) else round(value * 1000, 1)


class Storm:
    """One storm in one mode. With an open `http_client` its orders are placed over the HTTP API, without it on the broker.

    `progress(sent, ended)` is called after every batch and while the storm waits."""

    def __init__(
        self,
        mode: Mode,
        backend: Backend,
        plan: LoadPlan,
        *,
        prefix: str | None = None,
        http_client: HttpOrderClient | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        self._mode = mode
        self._plan = plan
        self._backend = backend
        self._transport: Transport = backend.transport("storm")
        self._order_client = BrokerOrderClient(self._transport, topology(mode, prefix), backend.environment)
        self._stores: dict[str, Store] = {
            queue.worker: backend.store(queue.worker) for queue in self._order_client.topology.queues
        }
        self._http_client = http_client
        #: Order id -> when it ended, for orders whose id the HTTP API has not returned yet, or of another client.
        self._unmatched_ends: dict[str, float] = {}
        self._progress = progress or (lambda _sent, _ended: None)
        self._sent_orders: dict[str, SentOrder] = {}
        self._open: set[str] = set()
        self._order_ended = asyncio.Event()

    async def run(self) -> StormReport:
        """Send the orders, wait until they end, audit.

        Raises TransportError, StoreError, GatewayUnreachable, OrderNotConfirmed."""
        await self._transport.open()
        for store in self._stores.values():
            await store.open([])
        try:
            await top_up(self._stores[INVENTORY], dict.fromkeys(SKUS, 6 * self._plan.orders))
            await declare_or_check(self._transport, self._order_client.topology)
            ends = [kind.type_name for kind in FINAL_EVENTS]
            await self._transport.subscribe(self._order_client.topology, ends, self._on_event)
            storm_started_at = time.monotonic()
            try:
                async with asyncio.timeout(self._plan.timeout_s):
                    await self._send_all()
                    await self._wait_until_all_ended()
            except TimeoutError:
                await self._poll_order_database()
            last = max(
                (sent_order.ended_at for sent_order in self._sent_orders.values() if math.isfinite(sent_order.ended_at)),
                default=time.monotonic(),
            )
            return await self._report(last - storm_started_at)
        finally:
            await self._transport.close()
            for store in self._stores.values():
                await store.close()

    async def _send_all(self) -> None:
        storm_started_at = time.monotonic()
        sent = 0
        while sent < self._plan.orders:
            capacity = min(self._plan.in_flight - len(self._open), self._plan.orders - sent, SEND_AT_ONCE)
            if self._plan.rate is not None:
                due = math.floor((time.monotonic() - storm_started_at) * self._plan.rate) + 1
                capacity = min(capacity, due - sent)
            if capacity > 0:
                await self._send(range(sent, sent + capacity), storm_started_at)
                sent += capacity
            else:
                await self._wait_for_end(0.002 if self._plan.rate is not None else 1.0)

    async def _send(self, numbers: range, storm_started_at: float) -> None:
        # With a rate, an order that is sent late was due earlier: its clock has been running (no coordinated omission).
        rate = self._plan.rate
        starts = {number: time.monotonic() if rate is None else storm_started_at + number / rate for number in numbers}
        if self._http_client is None:
            await self._publish(starts)
        else:
            await asyncio.gather(
                *(self._place_over_http(self._http_client, number, started_at) for number, started_at in starts.items())
            )
        self._progress(len(self._sent_orders), len(self._sent_orders) - len(self._open))

    async def _place_over_http(self, http_client: HttpOrderClient, number: int, started_at: float) -> None:
        """Place one order over the HTTP API, which assigns its id. The event of its end may arrive before the response."""
        injected = self._plan.faults_of(number)
        order_id = await http_client.place(self._plan.details_of(number), injected)
        sent_order = self._sent_orders[order_id] = SentOrder(
            order_id, injected, started_at, self._unmatched_ends.pop(order_id, math.inf)
        )
        if math.isinf(sent_order.ended_at):
            self._open.add(order_id)

    async def _publish(self, starts: Mapping[int, float]) -> None:
        """Publish orders as one batch. `starts`: number of the order -> when its clock started."""
        outgoing = []
        for number, started_at in starts.items():
            sent_order = SentOrder(self._backend.environment.new_id(), self._plan.faults_of(number), started_at)
            self._sent_orders[sent_order.order_id] = sent_order
            self._open.add(sent_order.order_id)
            command = PlaceOrder(order_id=sent_order.order_id, details=self._plan.details_of(number))
            outgoing.append(self._order_client.outgoing(command, sent_order.injected))
        receipts = await self._transport.publish(outgoing)
        while Receipt.UNKNOWN in receipts:  # in doubt: send again, the inbox drops the duplicate
            doubtful = [item for item, receipt in zip(outgoing, receipts, strict=True) if receipt is Receipt.UNKNOWN]
            await asyncio.sleep(0.1)
            outgoing, receipts = doubtful, await self._transport.publish(doubtful)
        if Receipt.UNROUTABLE in receipts:
            raise OrderNotConfirmed(f"no queue accepts orders in the {self._mode} mode. Start it: `saga up --mode {self._mode}`.")

    def _on_event(self, wire: Wire) -> None:
        order_id = str(wire.correlation_id)
        if order_id in self._open:
            self._open.discard(order_id)
            self._sent_orders[order_id].ended_at = time.monotonic()
            self._order_ended.set()
        elif self._http_client is not None:
            self._unmatched_ends[order_id] = time.monotonic()

    async def _wait_for_end(self, timeout_s: float) -> bool:
        """Wait until an order ends. False when none did within `timeout_s`."""
        self._order_ended.clear()
        try:
            async with asyncio.timeout(timeout_s):
                await self._order_ended.wait()
        except TimeoutError:
            return False
        return True

    async def _wait_until_all_ended(self) -> None:
        silent_since = time.monotonic()
        while self._open:
            if await self._wait_for_end(0.25):
                silent_since = time.monotonic()
            elif time.monotonic() - silent_since > POLL_AFTER_S:
                await self._poll_order_database()
                silent_since = time.monotonic()
            self._progress(len(self._sent_orders), len(self._sent_orders) - len(self._open))

    async def _poll_order_database(self) -> None:
        """Find orders whose end was missed: the storm's queue is deleted with its connection."""
        offset = time.monotonic() - time.time()
        for record in await self._stores[ORDER].find(Order.collection):
            order = Order.from_body(record.body)
            if record.document_id in self._open and order.ended_at is not None:
                self._open.discard(record.document_id)
                self._sent_orders[record.document_id].ended_at = order.ended_at + offset

    async def _report(self, seconds: float) -> StormReport:
        snapshot = await self._settled_snapshot()
        mine = [order for order_id, order in snapshot.orders.items() if order_id in self._sent_orders]
        rejected = Counter(str(order.reason) for order in mine if order.state is OrderState.REJECTED)
        injected = Counter(failure for sent_order in self._sent_orders.values() for failure in sent_order.injected)
        observed = {
            failure: len(snapshot.triggered_faults.get(failure, frozenset()) & self._sent_orders.keys())
            for failure in self._plan.failures
        }
        return StormReport(
            mode=self._mode,
            plan=self._plan,
            sent_orders=list(self._sent_orders.values()),
            seconds=seconds,
            completed=sum(order.state is OrderState.COMPLETED for order in mine),
            rejected=dict(sorted(rejected.items())),
            needs_attention=len(await self._needing_attention(snapshot)) if self._open else 0,
            injected={failure: injected[failure] for failure in self._plan.failures},
            observed=observed,
            audit=audit(snapshot),
        )

    async def _settled_snapshot(self) -> Snapshot:
        """A snapshot in which no payment is open (one may settle a moment after its order ends), or the last of 20."""
        for _ in range(20):
            snapshot = await take_snapshot(self._stores, await self._backend.books())
            if not any(payment.due_at for payment in snapshot.payments.values()):
                break
            await asyncio.sleep(0.25)
        return snapshot

    async def _needing_attention(self, snapshot: Snapshot) -> set[str]:
        """The ids of unfinished orders that need attention: they are marked, or have a dead letter."""
        workers = [queue.worker for queue in self._order_client.topology.queues]
        letters = await dead_letters(self._transport, self._order_client.topology, workers)
        return self._open & ({str(letter.order_id) for letter in letters} | orders_needing_attention(snapshot).keys())
