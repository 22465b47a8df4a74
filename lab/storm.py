"""The storm: many orders at once, some with injected failures, timed to their committed end, audited, and reported.

What keeps it honest: the clock of an order starts before it is sent (with a rate, when it was due to be sent), and
stops at its terminal business state; an order that does not end counts as infinite and is never dropped; the audit comes before
any figure; injected failures are held against those that were observed to act. Which orders fail is decided by a hash of (seed,
failure, number of the order), so both modes and every repetition fail the same ones.
"""

import asyncio
import math
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from api.broker_client import Door, NotTaken
from api.http_client import Customer
from api.sample_orders import SKUS, Plan
from bootstrap.backend import Parts
from bootstrap.modes import Mode, topology
from broker.transport import Receipt, Transport, Wire, furnish
from ops.audit import Audit, audit
from ops.dead_letters import dead_letters
from ops.order_status import needing_attention
from ops.snapshot import Snapshot, snapshot
from ops.stock import top_up
from services.order.domain import Order, OrderState
from services.order.messages import OrderCompleted, OrderRejected, PlaceOrder
from store.protocol import Store

#: Orders handed to the broker in one go at most.
SEND_AT_ONCE = 64
#: Seconds without any order ending after which the databases are asked, in case an event was missed.
SILENCE_S = 5.0


@dataclass(slots=True)
class Shot:
    """One order of the storm. Times of the loop's clock; `ended_at` is infinite until it has ended."""

    order_id: str
    injected: tuple[str, ...]
    started_at: float
    ended_at: float = math.inf

    @property
    def seconds(self) -> float:
        return self.ended_at - self.started_at


@dataclass(frozen=True, slots=True)
class Report:
    """What came of it. `ends`: state or reason -> how many; `needs_attention`: unfinished orders that a person has to see to."""

    mode: Mode
    plan: Plan
    shots: Sequence[Shot]
    seconds: float
    completed: int
    rejected: Mapping[str, int]
    needs_attention: int
    injected: Mapping[str, int]
    observed: Mapping[str, int]
    audit: Audit

    @property
    def unfinished(self) -> int:
        return sum(math.isinf(shot.ended_at) for shot in self.shots)

    @property
    def ok(self) -> bool:
        return self.audit.ok and not self.unfinished


def percentile_ms(shots: Sequence[Shot], percent: float) -> float | None:
    """The latency in ms that `percent` of the orders do not exceed (nearest rank); None when infinite, or when there are none."""
    ranked = sorted(shot.seconds for shot in shots)
    if not ranked:
        return None
    value = ranked[max(0, math.ceil(percent / 100 * len(ranked)) - 1)]
    return None if math.isinf(value) else round(value * 1000, 1)


class Storm:
    """One storm in one mode. With a `customer`, open, its orders are handed in at an HTTP door in place of the broker.

    `progress(sent, ended)` is called now and then."""

    def __init__(
        self,
        mode: Mode,
        parts: Parts,
        plan: Plan,
        *,
        prefix: str | None = None,
        customer: Customer | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        self._mode = mode
        self._plan = plan
        self._parts = parts
        self._transport: Transport = parts.transport("storm")
        self._door = Door(self._transport, topology(mode, prefix), parts.sources)
        self._stores: dict[str, Store] = {queue.worker: parts.store(queue.worker) for queue in self._door.topology.queues}
        self._customer = customer
        #: When orders ended that are none of ours, or that the door has not yet told us to be.
        self._strangers: dict[str, float] = {}
        self._progress = progress or (lambda _sent, _ended: None)
        self._shots: dict[str, Shot] = {}
        self._open: set[str] = set()
        self._something_ended = asyncio.Event()

    async def run(self) -> Report:
        """Fire, wait, audit. Raises what is raised when a server is missing."""
        await self._transport.open()
        for store in self._stores.values():
            await store.open([])
        try:
            await top_up(self._stores["inventory"], dict.fromkeys(SKUS, 6 * self._plan.orders))
            await furnish(self._transport, self._door.topology)
            ends = [OrderCompleted.type_name, OrderRejected.type_name]
            await self._transport.subscribe(self._door.topology, ends, self._hear)
            began = time.monotonic()
            try:
                async with asyncio.timeout(self._plan.timeout_s):
                    await self._fire()
                    await self._all_ended()
            except TimeoutError:
                await self._ask_the_order_service()
            last = max((shot.ended_at for shot in self._shots.values() if math.isfinite(shot.ended_at)), default=time.monotonic())
            return await self._judge(last - began)
        finally:
            await self._transport.close()
            for store in self._stores.values():
                await store.close()

    async def _fire(self) -> None:
        began = time.monotonic()
        sent = 0
        while sent < self._plan.orders:
            free = min(self._plan.in_flight - len(self._open), self._plan.orders - sent, SEND_AT_ONCE)
            if self._plan.rate is not None:
                due = math.floor((time.monotonic() - began) * self._plan.rate) + 1
                free = min(free, due - sent)
            if free > 0:
                await self._send(range(sent, sent + free), began)
                sent += free
            else:
                await self._wait_for_an_end(0.002 if self._plan.rate is not None else 1.0)

    async def _send(self, numbers: range, began: float) -> None:
        # With a rate, an order that is sent late was due earlier: its clock has been running (no coordinated omission).
        rate = self._plan.rate
        starts = {number: time.monotonic() if rate is None else began + number / rate for number in numbers}
        if self._customer is None:
            await self._publish(starts)
        else:
            await asyncio.gather(*(self._hand_in(self._customer, number, started_at) for number, started_at in starts.items()))
        self._progress(len(self._shots), len(self._shots) - len(self._open))

    async def _hand_in(self, customer: Customer, number: int, started_at: float) -> None:
        """One order through the HTTP door, which gives it its id; its end may be heard before that."""
        injected = self._plan.injected_into(number)
        order_id = await customer.place(self._plan.details_of(number), injected)
        shot = self._shots[order_id] = Shot(order_id, injected, started_at, self._strangers.pop(order_id, math.inf))
        if math.isinf(shot.ended_at):
            self._open.add(order_id)

    async def _publish(self, starts: Mapping[int, float]) -> None:
        """Orders straight to the broker, as one batch (number of the order -> when its clock began)."""
        outgoing = []
        for number, started_at in starts.items():
            shot = Shot(self._parts.sources.new_id(), self._plan.injected_into(number), started_at)
            self._shots[shot.order_id] = shot
            self._open.add(shot.order_id)
            command = PlaceOrder(order_id=shot.order_id, details=self._plan.details_of(number))
            outgoing.append(self._door.outgoing(command, shot.injected))
        receipts = await self._transport.publish(outgoing)
        while Receipt.UNKNOWN in receipts:  # in doubt: send again, the inbox drops the twin
            doubtful = [item for item, receipt in zip(outgoing, receipts, strict=True) if receipt is Receipt.UNKNOWN]
            await asyncio.sleep(0.1)
            outgoing, receipts = doubtful, await self._transport.publish(doubtful)
        if Receipt.UNROUTABLE in receipts:
            raise NotTaken(f"no queue takes orders in {self._mode}: is the mode running (`saga up --mode {self._mode}`)?")

    def _hear(self, wire: Wire) -> None:
        order_id = str(wire.correlation_id)
        if order_id in self._open:
            self._open.discard(order_id)
            self._shots[order_id].ended_at = time.monotonic()
            self._something_ended.set()
        elif self._customer is not None:
            self._strangers[order_id] = time.monotonic()

    async def _wait_for_an_end(self, patience_s: float) -> bool:
        """Wait until some order has ended; False when none did in time."""
        self._something_ended.clear()
        try:
            async with asyncio.timeout(patience_s):
                await self._something_ended.wait()
        except TimeoutError:
            return False
        return True

    async def _all_ended(self) -> None:
        silent_since = time.monotonic()
        while self._open:
            if await self._wait_for_an_end(0.25):
                silent_since = time.monotonic()
            elif time.monotonic() - silent_since > SILENCE_S:
                await self._ask_the_order_service()
                silent_since = time.monotonic()
            self._progress(len(self._shots), len(self._shots) - len(self._open))

    async def _ask_the_order_service(self) -> None:
        """Find ends whose events were missed (this instrument's queue dies with its connection) in the database."""
        offset = time.monotonic() - time.time()
        for record in await self._stores["order"].find(Order.collection):
            order = Order.from_body(record.body)
            if record.document_id in self._open and order.ended_at is not None:
                self._open.discard(record.document_id)
                self._shots[record.document_id].ended_at = order.ended_at + offset

    async def _judge(self, seconds: float) -> Report:
        seen = await self._settled()
        mine = [order for order_id, order in seen.orders.items() if order_id in self._shots]
        rejected = Counter(str(order.reason) for order in mine if order.state is OrderState.REJECTED)
        injected = Counter(failure for shot in self._shots.values() for failure in shot.injected)
        observed = {failure: len(seen.acted.get(failure, frozenset()) & self._shots.keys()) for failure in self._plan.failures}
        return Report(
            mode=self._mode,
            plan=self._plan,
            shots=list(self._shots.values()),
            seconds=seconds,
            completed=sum(order.state is OrderState.COMPLETED for order in mine),
            rejected=dict(sorted(rejected.items())),
            needs_attention=len(await self._stuck(seen)) if self._open else 0,
            injected={failure: injected[failure] for failure in self._plan.failures},
            observed=observed,
            audit=audit(seen),
        )

    async def _settled(self) -> Snapshot:
        """Everything stored, once the last payment has come to rest (an order may end a moment before), or after a short wait."""
        for _ in range(20):
            seen = await snapshot(self._stores, await self._parts.books())
            if not any(payment.due_at for payment in seen.payments.values()):
                break
            await asyncio.sleep(0.25)
        return seen

    async def _stuck(self, seen: Snapshot) -> set[str]:
        """The orders that did not end and that a person has to look at: they say so, or have a dead letter somewhere."""
        workers = [queue.worker for queue in self._door.topology.queues]
        letters = await dead_letters(self._transport, self._door.topology, workers)
        return self._open & ({str(letter.order_id) for letter in letters} | needing_attention(seen).keys())
