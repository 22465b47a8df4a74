"""What must hold: the guarantees G1, G2, G3 and G5 of protocol.md section 4, as checks on a picture of one order.

The protocol tests and the simulator hold every step of a run against it. A check raises `Broken` with the name of the
guarantee; tests/protocol/test_planted_bugs.py checks the checks.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from orchestrator.saga import Phase, SagaRun
from services.delivery.domain import Delivery, DeliveryState
from services.inventory.domain import Reservation, ReservationState, Stock
from services.order.domain import Order, OrderState
from services.payment.domain import Payment, PaymentState
from services.payment.messages import Answer
from services.vocabulary import Reason

HOLDS_MONEY = (Answer.AUTHORIZED, Answer.PENDING)

Final = Order | Reservation | Payment | Delivery

#: States that nothing may leave.
FINAL = frozenset(
    {
        OrderState.COMPLETED,
        OrderState.REJECTED,
        ReservationState.REJECTED,
        ReservationState.RELEASED,
        PaymentState.DECLINED,
        PaymentState.VOIDED,
        *DeliveryState,
    }
)


class Broken(AssertionError):  # noqa: N818 - it names what happened
    """A guarantee does not hold. `guarantee` is its name on the page: G1, G2, G3, G5, `never`, `final` or `conservation`."""

    def __init__(self, guarantee: str, what: str) -> None:
        super().__init__(f"{guarantee}: {what}")
        self.guarantee = guarantee


@dataclass(frozen=True, slots=True)
class Picture:
    """Everything that exists of one order at one moment, in all services and at the gateway."""

    order: Order | None = None
    reservation: Reservation | None = None
    payment: Payment | None = None
    delivery: Delivery | None = None
    gateway: Answer | None = None
    run: SagaRun | None = None

    def states(self) -> dict[str, str]:
        """The states alone, `none` for what does not exist: what a script expects and a failure shows."""
        found = {"order": self.order, "stock": self.reservation, "payment": self.payment, "delivery": self.delivery}
        states = {name: document.state.value if document else "none" for name, document in found.items()}
        return states | {"gateway": self.gateway.value if self.gateway else "none"}


def _demand(guarantee: str, holds: bool, what: str, picture: Picture) -> None:
    if not holds:
        raise Broken(guarantee, f"{what}: {picture.states()}")


def check_step(before: Picture, after: Picture, mode: str) -> None:
    """What must hold after every single step, with `before` as it was one step earlier."""
    _check_g1(after, mode)
    _check_g2(after, mode)
    pairs: tuple[tuple[Final | None, Final | None], ...] = (
        (before.order, after.order),
        (before.reservation, after.reservation),
        (before.payment, after.payment),
        (before.delivery, after.delivery),
    )
    for old, new in pairs:
        if old is not None and old.state in FINAL:
            same = new is not None and (new.state, new.reason) == (old.state, old.reason)
            _demand("final", same, f"{type(old).__name__} was {old.state} for good", after)


def _check_g1(now: Picture, mode: str) -> None:
    """A rejected order holds nothing; a completed one everything."""
    held = now.reservation is not None and now.reservation.state is ReservationState.HELD
    scheduled = now.delivery is not None and now.delivery.state is DeliveryState.SCHEDULED
    paid = now.payment.state if now.payment else None
    if now.order is None:
        return
    if now.order.state is OrderState.REJECTED:
        _demand("G1", not held, "rejected, and stock is held", now)
        _demand("G1", now.gateway not in HOLDS_MONEY, "rejected, and the gateway holds money", now)
        # In choreography alone a payment may still be VOIDING (nothing): StockRejected does not wait for a withdrawal's chain.
        at_work = {PaymentState.PENDING, PaymentState.AUTHORIZED, *([PaymentState.VOIDING] if mode == "orchestrator" else [])}
        _demand("G1", paid not in at_work, "rejected, and the payment is at work", now)
        _demand("G1", not scheduled, "rejected, and delivered", now)
    if now.order.state is OrderState.COMPLETED:
        everything = held and scheduled and paid is PaymentState.AUTHORIZED and now.gateway is Answer.AUTHORIZED
        _demand("G1", everything, "completed, and something is missing", now)


def _check_g2(now: Picture, mode: str) -> None:
    """Things are given back in the legal order: money before stock, the delivery barred before money."""
    delivery = now.delivery.state if now.delivery else None
    paid = now.payment.state if now.payment else None
    if now.reservation and now.reservation.state is ReservationState.RELEASED:
        _demand("G2", paid in (None, PaymentState.DECLINED, PaymentState.VOIDED), "stock released before the payment was", now)
        _demand("G2", now.gateway not in HOLDS_MONEY, "stock released, and the gateway holds money", now)
        _demand("G2", delivery is not DeliveryState.SCHEDULED, "stock released, and delivered", now)
    if paid is PaymentState.VOIDED:
        barred = (DeliveryState.CANCELLED, DeliveryState.REJECTED)
        # The orchestrator knows that delivery was never asked; in choreography only a barred delivery says so.
        fine = delivery in barred or (mode == "orchestrator" and delivery is None)
        _demand("G2", fine, "payment voided before the delivery was barred", now)


def check_stock(stock: Iterable[Stock], reservations: Iterable[Reservation], initial: dict[str, int]) -> None:
    """Conservation: per SKU available + held = initial, never negative, and held is what the reservations hold."""
    held: dict[str, int] = {}
    for reservation in reservations:
        if reservation.state is ReservationState.HELD:
            for sku, quantity in reservation.quantities.items():
                held[sku] = held.get(sku, 0) + quantity
    for article in stock:
        adds_up = article.received == initial[article.sku] == article.available + article.held and article.available >= 0
        if not adds_up or article.held != held.get(article.sku, 0):
            raise Broken("conservation", f"{article!r}, reservations hold {held.get(article.sku, 0)} of {initial[article.sku]}")


@dataclass(frozen=True, slots=True)
class Decisions:
    """What an order's end depends on: the three decisions D, the first accepted withdrawal A, whether patience ran out P."""

    stock: Reason | None
    gateway_refuses: bool
    delivery_refuses: bool
    withdrawn: Reason | None
    patience_over: bool

    @property
    def refusals(self) -> list[Reason]:
        """The refusals in the order of the steps; patience turns payment's into a timeout."""
        payment = Reason.PAYMENT_TIMEOUT if self.patience_over else Reason.PAYMENT_DECLINED if self.gateway_refuses else None
        delivery = Reason.UNDELIVERABLE if self.delivery_refuses else None
        return [reason for reason in (self.stock, payment, delivery) if reason]


def check_end(now: Picture, given: Decisions) -> None:
    """What must hold when everything has come to rest: the order ended (G3), and as its decisions say (G5)."""
    ended = now.order is not None and now.order.ended
    _demand("G3", ended, "the order never ends", now)
    _demand("G3", now.run is None or now.run.phase is Phase.DONE, "the saga never ends", now)
    _demand("G3", now.payment is None or now.payment.due_at is None, "the payment never comes to rest", now)
    assert now.order is not None  # noqa: S101 - demanded above
    end = (now.order.state, now.order.reason)
    scheduled = now.delivery is not None and now.delivery.state is DeliveryState.SCHEDULED
    _demand("G5", (now.order.state is OrderState.COMPLETED) == scheduled, "completed if and only if scheduled", now)
    if given.withdrawn is None:
        refusals = given.refusals
        expected = (OrderState.REJECTED, refusals[0]) if refusals else (OrderState.COMPLETED, None)
        _demand("G5", end == expected, f"ended as {end}, its decisions say {expected}", now)
    elif given.refusals or now.order.state is OrderState.REJECTED:
        expected = (OrderState.REJECTED, given.withdrawn)
        _demand("G5", end == expected, f"ended as {end}, its withdrawal says {expected}", now)
