"""A steady stream of orders that does not mind what happens: sends again what was not confirmed, withdraws some.

Remembers which orders the broker has confirmed, because exactly those must not be lost. What an order is like,
whether a service fails it and whether its customer takes it back is decided by hash of (seed, number), in both modes alike.
"""

import asyncio
import random
from collections.abc import Mapping
from dataclasses import dataclass, field

from api.broker_client import Door
from api.sample_orders import Plan
from broker.transport import Outgoing, Receipt, Transport
from services.order.messages import PlaceOrder, WithdrawOrder
from services.vocabulary import Reason

#: So that things are undone under chaos: which share of the orders fails where. The gateway's worse failures are the chaos's own.
FAILURES: Mapping[str, float] = {
    "inventory:out_of_stock": 0.05,
    "payment:declined": 0.05,
    "delivery:undeliverable": 0.06,
    "order:duplicate": 0.04,
}
#: The share of orders that are taken back, and within how many seconds of their placing.
WITHDRAWN, WITHDRAWN_WITHIN_S = 0.10, 3.0
#: Between two sendings.
TICK_S = 0.05
#: Messages in one sending at most: after an outage there are many.
SEND_AT_ONCE = 64


@dataclass(slots=True)
class Customers:
    """Places `rate` orders a second through `door` until told to stop. Open the transport first."""

    door: Door
    transport: Transport
    seed: int
    rate: float
    #: Orders placed, by id; those in `accepted` have the broker's confirm.
    placed: set[str] = field(default_factory=set)
    accepted: set[str] = field(default_factory=set)
    withdrawals: int = 0
    #: Sent, or to be sent, and not confirmed.
    _owed: dict[str, Outgoing] = field(default_factory=dict)
    _later: list[tuple[float, str]] = field(default_factory=list)

    async def run(self, seconds: float) -> None:
        """Place orders for so long."""
        plan = Plan(orders=0, in_flight=0, failures=FAILURES, seed=self.seed)
        loop = asyncio.get_running_loop()
        began = loop.time()
        while (passed := loop.time() - began) < seconds:
            self._place_until(passed * self.rate, plan)
            await self._send(loop.time())
            await asyncio.sleep(TICK_S)
        self._place_until(seconds * self.rate, plan)  # those that were due while the last sending took long

    async def finish(self) -> None:
        """Send what is still owed until the broker has confirmed all of it."""
        while self._owed or self._later:
            await self._send(asyncio.get_running_loop().time())
            await asyncio.sleep(TICK_S)

    @property
    def unconfirmed(self) -> int:
        """Messages that the broker has not confirmed."""
        return len(self._owed)

    def _place_until(self, due: float, plan: Plan) -> None:
        while len(self.placed) < due:
            self._place(plan, len(self.placed), asyncio.get_running_loop().time())

    def _place(self, plan: Plan, number: int, now: float) -> None:
        chance = random.Random(f"{self.seed}:{number}:withdrawal")
        order_id = self.door.sources.new_id()
        self.placed.add(order_id)
        command = PlaceOrder(order_id=order_id, details=plan.details_of(number))
        self._owe(self.door.outgoing(command, plan.injected_into(number)))
        if chance.random() < WITHDRAWN:
            self._later.append((now + chance.uniform(0.0, WITHDRAWN_WITHIN_S), order_id))

    async def _send(self, now: float) -> None:
        due = [order_id for at, order_id in self._later if at <= now]
        self._later = [(at, order_id) for at, order_id in self._later if at > now]
        for order_id in due:
            self.withdrawals += 1
            self._owe(self.door.outgoing(WithdrawOrder(order_id=order_id, reason=Reason.WITHDRAWN), ()))
        outgoing = list(self._owed.values())[:SEND_AT_ONCE]
        receipts = await self.transport.publish(outgoing)
        for item, receipt in zip(outgoing, receipts, strict=True):
            if receipt is Receipt.CONFIRMED:
                del self._owed[str(item.wire.message_id)]
                if item.wire.type == PlaceOrder.type_name:
                    self.accepted.add(str(item.wire.correlation_id))

    def _owe(self, outgoing: Outgoing) -> None:
        self._owed[str(outgoing.wire.message_id)] = outgoing
