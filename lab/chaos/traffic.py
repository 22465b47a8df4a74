"""Places orders at a steady rate, sends again what was not confirmed, and withdraws some of the orders.

Records which orders the broker has confirmed, because exactly those must not be lost. The lines of an order, its injected faults
and its withdrawal depend only on (seed, number), so they are the same in both modes.
"""

import asyncio
import random
from collections.abc import Mapping
from dataclasses import dataclass, field

from api.broker_client import BrokerOrderClient
from api.sample_orders import LoadPlan
from broker.transport import Outgoing, Receipt, Transport
from services.order.messages import PlaceOrder, WithdrawOrder
from services.vocabulary import Reason

#: Fault -> the share of orders that have it, so that compensations run. The nemesis causes the gateway's hangs and lost answers.
FAULT_SHARES: Mapping[str, float] = {
    "inventory:out_of_stock": 0.05,
    "payment:declined": 0.05,
    "delivery:undeliverable": 0.06,
    "order:duplicate": 0.04,
}
#: The share of orders that are withdrawn, and the most seconds between placing and withdrawing.
WITHDRAWN_SHARE, WITHDRAWN_WITHIN_S = 0.10, 3.0
#: Seconds between two batches.
TICK_S = 0.05
#: Messages in one batch at most: after an outage there are many.
SEND_AT_ONCE = 64


@dataclass(slots=True)
class Traffic:
    """Places `rate` orders a second through `client`. Its transport must be open."""

    client: BrokerOrderClient
    transport: Transport
    seed: int
    rate: float
    #: Ids of the orders placed, and of those that the broker has confirmed.
    placed: set[str] = field(default_factory=set)
    accepted: set[str] = field(default_factory=set)
    withdrawals: int = 0
    #: Message id -> a message that is not confirmed, sent or not.
    _unconfirmed: dict[str, Outgoing] = field(default_factory=dict)
    _scheduled_withdrawals: list[tuple[float, str]] = field(default_factory=list)

    async def run(self, seconds: float) -> None:
        """Place orders for `seconds`."""
        plan = LoadPlan(orders=0, in_flight=0, failures=FAULT_SHARES, seed=self.seed)
        loop = asyncio.get_running_loop()
        started_at = loop.time()
        while (passed := loop.time() - started_at) < seconds:
            self._place_until(passed * self.rate, plan)
            await self._send(loop.time())
            await asyncio.sleep(TICK_S)
        self._place_until(seconds * self.rate, plan)  # those that became due during the last batch

    async def send_remaining(self) -> None:
        """Send the remaining messages and withdrawals until the broker has confirmed all of them."""
        while self._unconfirmed or self._scheduled_withdrawals:
            await self._send(asyncio.get_running_loop().time())
            await asyncio.sleep(TICK_S)

    @property
    def unconfirmed(self) -> int:
        """The number of messages that the broker has not confirmed."""
        return len(self._unconfirmed)

    def _place_until(self, due: float, plan: LoadPlan) -> None:
        while len(self.placed) < due:
            self._place(plan, len(self.placed), asyncio.get_running_loop().time())

    def _place(self, plan: LoadPlan, number: int, now: float) -> None:
        rng = random.Random(f"{self.seed}:{number}:withdrawal")
        order_id = self.client.environment.new_id()
        self.placed.add(order_id)
        command = PlaceOrder(order_id=order_id, details=plan.details_of(number))
        self._queue(self.client.outgoing(command, plan.faults_of(number)))
        if rng.random() < WITHDRAWN_SHARE:
            self._scheduled_withdrawals.append((now + rng.uniform(0.0, WITHDRAWN_WITHIN_S), order_id))

    async def _send(self, now: float) -> None:
        due = [order_id for at, order_id in self._scheduled_withdrawals if at <= now]
        self._scheduled_withdrawals = [(at, order_id) for at, order_id in self._scheduled_withdrawals if at > now]
        for order_id in due:
            self.withdrawals += 1
            self._queue(self.client.outgoing(WithdrawOrder(order_id=order_id, reason=Reason.WITHDRAWN), ()))
        outgoing = list(self._unconfirmed.values())[:SEND_AT_ONCE]
        receipts = await self.transport.publish(outgoing)
        for item, receipt in zip(outgoing, receipts, strict=True):
            if receipt is Receipt.CONFIRMED:
                del self._unconfirmed[str(item.wire.message_id)]
                if item.wire.type == PlaceOrder.type_name:
                    self.accepted.add(str(item.wire.correlation_id))

    def _queue(self, outgoing: Outgoing) -> None:
        self._unconfirmed[str(outgoing.wire.message_id)] = outgoing
