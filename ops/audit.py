"""The audit: checks the promises of docs/design.md#promises against everything stored. It repairs nothing.

A pure function of a snapshot. INVARIANTS concern one document or one ended order and are always checked. INVARIANTS_AT_REST
compare whole collections and are checked when no order is open (PENDING). The result says how many orders are open.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain

from ops.snapshot import Snapshot
from services.delivery.domain import DeliveryState
from services.inventory.domain import ReservationState
from services.order.domain import Order, OrderState
from services.payment.domain import PaymentState

#: Reports print at most this many ids of a finding, and always the full count.
IDS_NAMED = 20


@dataclass(frozen=True, slots=True)
class Finding:
    """One promise that does not hold, and the ids it fails for: order ids, or SKUs where the promise is about stock."""

    promise: str
    ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Audit:
    """The result. `open_orders`: how many orders have not ended. While there are any, INVARIANTS_AT_REST are not checked."""

    open_orders: int
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        return not self.findings


def audit(snapshot: Snapshot) -> Audit:
    """Check every promise that can be checked now."""
    open_orders = sum(order.is_open for order in snapshot.orders.values())
    applicable = INVARIANTS if open_orders else INVARIANTS | INVARIANTS_AT_REST
    findings = [Finding(promise, tuple(sorted(ids))) for promise, check in applicable.items() if (ids := set(check(snapshot)))]
    return Audit(open_orders, tuple(findings))


def _orders(snapshot: Snapshot, state: OrderState) -> Iterator[tuple[str, Order]]:
    return ((order_id, order) for order_id, order in snapshot.orders.items() if order.state is state)


def _stock_adds_up(snapshot: Snapshot) -> Iterator[str]:
    return (
        sku
        for sku, stock in snapshot.stock.items()
        if stock.available < 0 or stock.held < 0 or stock.available + stock.held != stock.received
    )


def _held_equals_reserved(snapshot: Snapshot) -> Iterator[str]:
    held: Counter[str] = Counter()
    for reservation in snapshot.reservations.values():
        if reservation.state is ReservationState.HELD:
            held.update(reservation.quantities)
    held_units = {sku: stock.held for sku, stock in snapshot.stock.items()}
    return (sku for sku in held_units.keys() | held.keys() if held_units.get(sku, 0) != held[sku])


def _completed_holds_everything(snapshot: Snapshot) -> Iterator[str]:
    for order_id, order in _orders(snapshot, OrderState.COMPLETED):
        reservation, payment = snapshot.reservations.get(order_id), snapshot.payments.get(order_id)
        delivery, book_entry = snapshot.deliveries.get(order_id), snapshot.books.get(order_id)
        total = order.details.total_cents if order.details else None
        complete = (
            reservation is not None
            and reservation.state is ReservationState.HELD
            and order.details is not None
            and reservation.quantities == order.details.quantities()
            and payment is not None
            and payment.state is PaymentState.AUTHORIZED
            and delivery is not None
            and delivery.state is DeliveryState.SCHEDULED
            and book_entry is not None
            and (book_entry.state, book_entry.amount_cents) == ("authorized", total)
        )
        if not complete:
            yield order_id


def _rejected_holds_nothing(snapshot: Snapshot) -> Iterator[str]:
    """Orders that are rejected, or were withdrawn and never placed, and still hold something."""
    for order_id, _ in chain(_orders(snapshot, OrderState.REJECTED), _orders(snapshot, OrderState.TOMBSTONE)):
        reservation, payment = snapshot.reservations.get(order_id), snapshot.payments.get(order_id)
        delivery, book_entry = snapshot.deliveries.get(order_id), snapshot.books.get(order_id)
        if (
            (reservation and reservation.state is ReservationState.HELD)
            or (payment and payment.state in (PaymentState.PENDING, PaymentState.AUTHORIZED))
            or (delivery and delivery.state is DeliveryState.SCHEDULED)
            or (book_entry and book_entry.state in ("authorized", "pending"))
        ):
            yield order_id


def _rejected_has_reason(snapshot: Snapshot) -> Iterator[str]:
    return (
        order_id
        for order_id, order in _orders(snapshot, OrderState.REJECTED)
        if order.reason is None or (order.withdrawn and order.reason is not order.withdrawn)
    )


def _gateway_payment_has_order(snapshot: Snapshot) -> Iterator[str]:
    return (
        key
        for key, book_entry in snapshot.books.items()
        if book_entry.state in ("authorized", "pending") and key not in snapshot.orders
    )


def _document_has_order(snapshot: Snapshot) -> Iterator[str]:
    for documents in (snapshot.reservations, snapshot.payments, snapshot.deliveries, snapshot.sagas):
        yield from (order_id for order_id in documents if order_id not in snapshot.orders)


AuditCheck = Callable[[Snapshot], Iterator[str]]

#: Promise -> the ids that break it. Each check concerns one document, or orders that have ended.
INVARIANTS: dict[str, AuditCheck] = {
    "stock: received = available + held, never negative": _stock_adds_up,
    "completed orders: stock held, payment authorized (also at the gateway), delivery scheduled": _completed_holds_everything,
    "rejected orders: no stock held, no payment (also at the gateway), no delivery": _rejected_holds_nothing,
    "rejected orders: the reason is recorded; after a withdrawal it is the withdrawal's": _rejected_has_reason,
}

#: These compare whole collections, which are read one after the other, so they are checked only when no order is open.
INVARIANTS_AT_REST: dict[str, AuditCheck] = {
    "stock: units held = units in held reservations": _held_equals_reserved,
    "gateway: every payment that it holds belongs to an order": _gateway_payment_has_order,
    "every reservation, payment, delivery and saga belongs to an order": _document_has_order,
}
