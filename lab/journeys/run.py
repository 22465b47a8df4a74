"""One run of a journey in one mode: what a script can do and wait for, and its result.

Scripts do not sleep: they wait for conditions, and a timeout names the condition.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from api.sample_orders import sample_order
from bootstrap.modes import Mode
from broker.message import Event
from lab.system import System
from ops.audit import Audit, audit
from ops.snapshot import Snapshot
from services.inventory.domain import ReservationState
from services.inventory.messages import StockReleased, StockReserved
from services.order.messages import OrderCompleted, OrderPlaced, OrderRejected, WithdrawalRefused
from services.payment.domain import Payment, PaymentState
from services.payment.messages import PaymentAuthorized, PaymentVoided
from services.vocabulary import Line

#: Service -> the event that leads to its forward step, in the orchestrated mode by way of the coordinator.
_PRECEDING_EVENT = {"inventory": OrderPlaced, "payment": StockReserved, "delivery": PaymentAuthorized}


@dataclass(frozen=True, slots=True)
class JourneyResult:
    """The result of a run. `ends`: state (with reason) -> number of orders. `compensations`: those that had an effect, in
    order."""

    mode: Mode
    ends: dict[str, int]
    compensations: tuple[str, ...]
    snapshot: Snapshot
    audit: Audit


@dataclass(slots=True)
class JourneyRun:
    """The operations of a script on one system. `order_ids`: the orders placed so far."""

    system: System
    order_ids: list[str] = field(default_factory=list)

    def new_id(self) -> str:
        return self.system.backend.environment.new_id()

    async def place(self, wanted: Mapping[str, int], *injected: str, order_id: str | None = None) -> str:
        """Place an order for `wanted` (SKU -> quantity) with `injected` failures. Returns its id."""
        order_id = order_id or self.new_id()
        self.order_ids.append(order_id)
        details = sample_order([Line(sku=sku, quantity=quantity) for sku, quantity in wanted.items()])
        await self.system.client.place(order_id, details, injected)
        return order_id

    async def withdraw(self, order_id: str) -> None:
        await self.system.client.withdraw(order_id)

    async def stop(self, worker: str) -> None:
        await self.system.stop(worker)

    async def start(self, worker: str) -> None:
        await self.system.start(worker)

    def has_event(self, order_id: str, event: type[Event]) -> bool:
        return any(wire.correlation_id == order_id and wire.type == event.type_name for wire in self.system.events)

    async def wait_for_event(self, order_id: str, event: type[Event]) -> None:
        """Wait until an event of an order has been published."""
        await self.system.wait_until(lambda: self.has_event(order_id, event), f"{event.type_name} of {order_id}")

    def has_ended(self, order_id: str) -> bool:
        return self.has_event(order_id, OrderCompleted) or self.has_event(order_id, OrderRejected)

    async def wait_for_end(self, order_id: str) -> None:
        await self.system.wait_until(lambda: self.has_ended(order_id), f"the end of {order_id}")

    async def wait_for_refused_withdrawal(self, order_id: str) -> None:
        await self.wait_for_event(order_id, WithdrawalRefused)

    async def wait_for_order(self, order_id: str) -> None:
        """Wait until the order service has stored the order or a tombstone of it."""

        async def exists() -> bool:
            return bool(await self.system.stores["order"].find("orders", {"order_id": order_id}))

        await self.system.wait_until(exists, f"the order service to store {order_id}")

    async def wait_for_payment_state(self, order_id: str, state: PaymentState) -> None:
        """Wait until the payment is stored in this state."""

        async def has_state() -> bool:
            found = await self.system.stores["payment"].find(Payment.collection, {"order_id": order_id})
            return any(Payment.from_body(record.body).state is state for record in found)

        await self.system.wait_until(has_state, f"the payment of {order_id} to be {state}")

    async def wait_for_fault(self, failure: str) -> None:
        """Wait until an injected failure has been triggered at a worker."""

        async def is_triggered() -> bool:
            return failure in (await self.system.snapshot()).triggered_faults

        await self.system.wait_until(is_triggered, f"{failure} to be triggered")

    async def wait_for_queued_step(self, order_id: str, service: str) -> None:
        """Wait until the forward step of a stopped service is in its queue."""
        await self.wait_for_event(order_id, _PRECEDING_EVENT[service])
        await self.system.wait_until(
            lambda: self.system.has_waiting_messages(service), f"the step of {order_id} to be queued for {service}"
        )

    async def result(self) -> JourneyResult:
        """Wait until the system is idle, then return the result."""
        await self.system.wait_until_idle()
        snapshot = await self.system.snapshot()
        ends = Counter(
            f"{order.state} {order.reason}" if order.reason else str(order.state)
            for order_id, order in snapshot.orders.items()
            if order_id in self.order_ids
        )
        return JourneyResult(
            self.system.mode, dict(sorted(ends.items())), self._compensations(snapshot), snapshot, audit(snapshot)
        )

    def _compensations(self, snapshot: Snapshot) -> tuple[str, ...]:
        """The compensations that had an effect, in the order of their events."""
        first: dict[tuple[str, str], None] = {}
        for wire in self.system.events:
            order_id = str(wire.correlation_id)
            reservation, payment = snapshot.reservations.get(order_id), snapshot.payments.get(order_id)
            if wire.type == StockReleased.type_name and reservation and reservation.quantities:
                assert reservation.state is ReservationState.RELEASED  # noqa: S101 - RELEASED is final
                first[order_id, "ReleaseStock"] = None
            if wire.type == PaymentVoided.type_name and payment and payment.details and payment.state is PaymentState.VOIDED:
                first[order_id, "VoidPayment"] = None
        return tuple(compensation for _, compensation in first)
