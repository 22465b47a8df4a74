"""The status of an order as operators see it: its state, or NEEDS_ATTENTION when it cannot end without help.

An order needs attention when a compensation, or a step after the pivot, has exhausted its retries. That is recorded with the saga
run in the orchestrated mode, and with the order in choreography.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from ops.snapshot import Snapshot
from orchestrator.coordinator import NAME as COORDINATOR
from orchestrator.saga import SagaRun
from services.message_types import ORDER
from services.order.domain import Order
from services.vocabulary import NEEDS_ATTENTION, Attention
from store.protocol import Store


@dataclass(frozen=True, slots=True)
class OrderStatus:
    """An order, and the failure that keeps it from ending, if there is one."""

    order: Order
    attention: Attention | None

    @property
    def is_progressing(self) -> bool:
        """Whether the order is open and can still end without an operator."""
        return not self.order.ended and self.attention is None

    def summary(self) -> dict[str, str | None]:
        """Id, state and reason, as the CLI prints them."""
        order_id, order = self.order.order_id, self.order
        if self.attention and not order.ended:
            return {"order_id": order_id, "state": NEEDS_ATTENTION, "reason": f"{self.attention.step}: {self.attention.error}"}
        return {"order_id": order_id, "state": str(order.state), "reason": str(order.reason) if order.reason else None}


async def order_status(stores: Mapping[str, Store], order_id: str) -> OrderStatus | None:
    """The current status of one order; None when there is no such order. Raises StoreError."""
    found = await stores[ORDER].find(Order.collection, {"order_id": order_id})
    if not found:
        return None
    order = Order.from_body(found[0].body)
    attention = order.attention
    if COORDINATOR in stores and not order.ended:
        runs = await stores[COORDINATOR].find(SagaRun.collection, {"order_id": order_id})
        attention = SagaRun.from_body(runs[0].body).attention if runs else None
    return OrderStatus(order, attention)


async def saga_attention(stores: Mapping[str, Store]) -> dict[str, Attention]:
    """Order id -> what failed, for every saga run that needs attention; empty in choreography. Raises StoreError."""
    if COORDINATOR not in stores:
        return {}
    runs = [SagaRun.from_body(record.body) for record in await stores[COORDINATOR].find(SagaRun.collection)]
    return {run.order_id: run.attention for run in runs if run.attention}


def orders_needing_attention(snapshot: Snapshot) -> dict[str, Attention]:
    """Order id -> what failed, for every order that has not ended and needs attention."""
    result = {}
    for order_id, order in snapshot.orders.items():
        run = snapshot.sagas.get(order_id)
        attention = order.attention or (run.attention if run else None)
        if attention and not order.ended:
            result[order_id] = attention
    return result
