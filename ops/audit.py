"""The audit: the promises of docs/design.md section 2, held against everything that is stored. It judges, it does not repair.

A pure function of a snapshot. What must hold at all times is always judged; what only fits together once an order has
ended is judged for ended orders. An order that is still PENDING is counted as open, and the report says so.
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

#: Findings name at most this many ids; the count is always whole.
IDS_NAMED = 20


@dataclass(frozen=True, slots=True)
class Finding:
    """One promise that does not hold, and for whom (order ids, or SKUs where the promise is about stock)."""

    promise: str
    ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Audit:
    """The verdict. `open`: orders that have not ended, for which only what holds at all times was judged."""

    open: int
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        return not self.findings


def audit(seen: Snapshot) -> Audit:
    """Judge every promise that can be judged now."""
    still_open = sum(order.is_open for order in seen.orders.values())
    judged = ALWAYS if still_open else ALWAYS | AT_REST
    findings = [Finding(promise, tuple(sorted(ids))) for promise, check in judged.items() if (ids := set(check(seen)))]
    return Audit(still_open, tuple(findings))


def _orders(seen: Snapshot, state: OrderState) -> Iterator[tuple[str, Order]]:
    return ((order_id, order) for order_id, order in seen.orders.items() if order.state is state)


def _stock_adds_up(seen: Snapshot) -> Iterator[str]:
    return (
        sku
        for sku, stock in seen.stock.items()
        if stock.available < 0 or stock.held < 0 or stock.available + stock.held != stock.received
    )


def _held_is_reserved(seen: Snapshot) -> Iterator[str]:
    held: Counter[str] = Counter()
    for reservation in seen.reservations.values():
        if reservation.state is ReservationState.HELD:
            held.update(reservation.quantities)
    shelf = {sku: stock.held for sku, stock in seen.stock.items()}
    return (sku for sku in shelf.keys() | held.keys() if shelf.get(sku, 0) != held[sku])


def _completed_holds_everything(seen: Snapshot) -> Iterator[str]:
    for order_id, order in _orders(seen, OrderState.COMPLETED):
        reservation, payment = seen.reservations.get(order_id), seen.payments.get(order_id)
        delivery, booked = seen.deliveries.get(order_id), seen.books.get(order_id)
        total = order.details.total_cents if order.details else None
        whole = (
            reservation is not None
            and reservation.state is ReservationState.HELD
            and order.details is not None
            and reservation.quantities == order.details.quantities()
            and payment is not None
            and payment.state is PaymentState.AUTHORIZED
            and delivery is not None
            and delivery.state is DeliveryState.SCHEDULED
            and booked is not None
            and (booked.state, booked.amount_cents) == ("authorized", total)
        )
        if not whole:
            yield order_id


def _rejected_holds_nothing(seen: Snapshot) -> Iterator[str]:
    """Nor does an order that was withdrawn and never placed: nobody was ever asked for it."""
    for order_id, _ in chain(_orders(seen, OrderState.REJECTED), _orders(seen, OrderState.TOMBSTONE)):
        reservation, payment = seen.reservations.get(order_id), seen.payments.get(order_id)
        delivery, booked = seen.deliveries.get(order_id), seen.books.get(order_id)
        if (
            (reservation and reservation.state is ReservationState.HELD)
            or (payment and payment.state in (PaymentState.PENDING, PaymentState.AUTHORIZED))
            or (delivery and delivery.state is DeliveryState.SCHEDULED)
            or (booked and booked.state in ("authorized", "pending"))
        ):
            yield order_id


def _rejected_says_why(seen: Snapshot) -> Iterator[str]:
    return (
        order_id
        for order_id, order in _orders(seen, OrderState.REJECTED)
        if order.reason is None or (order.withdrawn and order.reason is not order.withdrawn)
    )


def _money_belongs_to_an_order(seen: Snapshot) -> Iterator[str]:
    return (key for key, booked in seen.books.items() if booked.state in ("authorized", "pending") and key not in seen.orders)


def _nothing_without_an_order(seen: Snapshot) -> Iterator[str]:
    for kept in (seen.reservations, seen.payments, seen.deliveries, seen.sagas):
        yield from (order_id for order_id in kept if order_id not in seen.orders)


Check = Callable[[Snapshot], Iterator[str]]

#: Promise -> the ids for which it does not hold. These concern one document, or orders that have ended.
ALWAYS: dict[str, Check] = {
    "stock: received = available + held, never negative": _stock_adds_up,
    "completed: stock held, money authorized here and at the gateway, delivery scheduled": _completed_holds_everything,
    "rejected: no stock, no money here or at the gateway, no delivery": _rejected_holds_nothing,
    "rejected: the reason is recorded, and a withdrawal is the reason": _rejected_says_why,
}

#: These compare whole collections, which are read one after the other: judged when no order is open.
AT_REST: dict[str, Check] = {
    "stock: what is held is what reservations hold": _held_is_reserved,
    "money: the gateway holds nothing without an order": _money_belongs_to_an_order,
    "nothing exists without its order": _nothing_without_an_order,
}
