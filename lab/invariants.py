"""The invariants: guarantees G1, G2, G3 and G5 of docs/protocol.md#guarantees, as checks of one order's snapshot.

The protocol tests apply them to every step of a run; the simulator applies `check_step` after every commit and `check_end` at
the end. A check raises `InvariantViolated` with the name of the guarantee. tests/protocol/test_planted_bugs.py tests the checks
themselves.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from orchestrator.saga import Phase, SagaRun
from services.delivery.domain import DeliveryState, OrderDelivery
from services.inventory.domain import Reservation, ReservationState, Stock
from services.order.domain import Order, OrderState
from services.payment.domain import Payment, PaymentState
from services.payment.messages import Answer
from services.vocabulary import Reason

FUNDS_HELD = (Answer.AUTHORIZED, Answer.PENDING)

BusinessDocument = Order | Reservation | Payment | OrderDelivery

#: The states that no document may leave.
FINAL_STATES = frozenset(
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


class InvariantViolated(AssertionError):  # noqa: N818 - the name says what happened
    """A guarantee does not hold. `guarantee`: G1, G2, G3 or G5 as in docs/protocol.md, or `final` or `conservation`."""

    def __init__(self, guarantee: str, what: str) -> None:
        super().__init__(f"{guarantee}: {what}")
        self.guarantee = guarantee


@dataclass(frozen=True, slots=True)
class OrderSnapshot:
    """The documents of one order at one moment, in all services and at the gateway. None: it does not exist."""

    order: Order | None = None
    reservation: Reservation | None = None
    payment: Payment | None = None
    delivery: OrderDelivery | None = None
    gateway: Answer | None = None
    run: SagaRun | None = None

    def states(self) -> dict[str, str]:
        """Service -> state, `none` for what does not exist."""
        found = {"order": self.order, "stock": self.reservation, "payment": self.payment, "delivery": self.delivery}
        states = {name: document.state.value if document else "none" for name, document in found.items()}
        return states | {"gateway": self.gateway.value if self.gateway else "none"}


def _require(guarantee: str, holds: bool, what: str, current: OrderSnapshot) -> None:
    if not holds:
        raise InvariantViolated(guarantee, f"{what}: {current.states()}")


def check_step(before: OrderSnapshot, after: OrderSnapshot, mode: str) -> None:
    """Check what must hold after every step. `before`: the snapshot one step earlier."""
    _check_g1(after, mode)
    _check_g2(after, mode)
    pairs: tuple[tuple[BusinessDocument | None, BusinessDocument | None], ...] = (
        (before.order, after.order),
        (before.reservation, after.reservation),
        (before.payment, after.payment),
        (before.delivery, after.delivery),
    )
    for old, new in pairs:
        if old is not None and old.state in FINAL_STATES:
            same = new is not None and (new.state, new.reason) == (old.state, old.reason)
            _require("final", same, f"{type(old).__name__} left its final state {old.state}", after)


def _check_g1(current: OrderSnapshot, mode: str) -> None:
    """A rejected order holds nothing, a completed one holds everything."""
    held = current.reservation is not None and current.reservation.state is ReservationState.HELD
    scheduled = current.delivery is not None and current.delivery.state is DeliveryState.SCHEDULED
    payment_state = current.payment.state if current.payment else None
    if current.order is None:
        return
    if current.order.state is OrderState.REJECTED:
        _require("G1", not held, "the order is rejected and stock is held", current)
        _require("G1", current.gateway not in FUNDS_HELD, "the order is rejected and the gateway holds money", current)
        # In choreography, a payment that holds nothing may still be VOIDING: StockRejected does not wait for the compensations
        # that a withdrawal started.
        in_progress = {PaymentState.PENDING, PaymentState.AUTHORIZED, *([PaymentState.VOIDING] if mode == "orchestrator" else [])}
        _require("G1", payment_state not in in_progress, "the order is rejected and the payment is in progress", current)
        _require("G1", not scheduled, "the order is rejected and its delivery is scheduled", current)
    if current.order.state is OrderState.COMPLETED:
        everything = held and scheduled and payment_state is PaymentState.AUTHORIZED and current.gateway is Answer.AUTHORIZED
        _require("G1", everything, "the order is completed and something is missing", current)


def _check_g2(current: OrderSnapshot, mode: str) -> None:
    """Compensation runs in its legal order: the delivery is barred before money is returned, money before stock."""
    delivery = current.delivery.state if current.delivery else None
    payment_state = current.payment.state if current.payment else None
    if current.reservation and current.reservation.state is ReservationState.RELEASED:
        _require(
            "G2",
            payment_state in (None, PaymentState.DECLINED, PaymentState.VOIDED),
            "stock is released before the payment",
            current,
        )
        _require("G2", current.gateway not in FUNDS_HELD, "stock is released and the gateway holds money", current)
        _require("G2", delivery is not DeliveryState.SCHEDULED, "stock is released and the delivery is scheduled", current)
    if payment_state is PaymentState.VOIDED:
        ruled_out_states = (DeliveryState.CANCELLED, DeliveryState.REJECTED)
        # The orchestrator knows whether it sent ScheduleDelivery; in choreography only a barred delivery shows that it did not
        # happen.
        allowed = delivery in ruled_out_states or (mode == "orchestrator" and delivery is None)
        _require("G2", allowed, "the payment is voided before the delivery is barred", current)


def check_stock(stock: Iterable[Stock], reservations: Iterable[Reservation], initial: dict[str, int]) -> None:
    """Conservation: for each SKU available + held = initial, never negative, and held is the sum of the reservations."""
    held: dict[str, int] = {}
    for reservation in reservations:
        if reservation.state is ReservationState.HELD:
            for sku, quantity in reservation.quantities.items():
                held[sku] = held.get(sku, 0) + quantity
    for article in stock:
        adds_up = article.received == initial[article.sku] == article.available + article.held and article.available >= 0
        if not adds_up or article.held != held.get(article.sku, 0):
            raise InvariantViolated(
                "conservation", f"{article!r}, reservations hold {held.get(article.sku, 0)} of {initial[article.sku]}"
            )


@dataclass(frozen=True, slots=True)
class Decisions:
    """What an order's end depends on: the three services' decisions, the first accepted withdrawal, a payment timeout."""

    stock: Reason | None
    gateway_refuses: bool
    delivery_refuses: bool
    withdrawn: Reason | None
    payment_timed_out: bool

    @property
    def rejection_reasons(self) -> list[Reason]:
        """The refusals in the order of the steps. A payment timeout takes the place of the gateway's refusal."""
        payment = Reason.PAYMENT_TIMEOUT if self.payment_timed_out else Reason.PAYMENT_DECLINED if self.gateway_refuses else None
        delivery = Reason.UNDELIVERABLE if self.delivery_refuses else None
        return [reason for reason in (self.stock, payment, delivery) if reason]


def check_end(current: OrderSnapshot, decisions: Decisions) -> None:
    """Check what must hold once the system is idle: the order has ended (G3), as its decisions determine (G5)."""
    ended = current.order is not None and current.order.ended
    _require("G3", ended, "the order never ends", current)
    _require("G3", current.run is None or current.run.phase is Phase.DONE, "the saga never ends", current)
    _require("G3", current.payment is None or current.payment.due_at is None, "the payment never ends", current)
    assert current.order is not None  # noqa: S101 - required above
    end = (current.order.state, current.order.reason)
    scheduled = current.delivery is not None and current.delivery.state is DeliveryState.SCHEDULED
    _require("G5", (current.order.state is OrderState.COMPLETED) == scheduled, "completed if and only if scheduled", current)
    if decisions.withdrawn is None:
        rejection_reasons = decisions.rejection_reasons
        expected = (OrderState.REJECTED, rejection_reasons[0]) if rejection_reasons else (OrderState.COMPLETED, None)
        _require("G5", end == expected, f"ended as {end}, its decisions require {expected}", current)
    elif decisions.rejection_reasons or current.order.state is OrderState.REJECTED:
        expected = (OrderState.REJECTED, decisions.withdrawn)
        _require("G5", end == expected, f"ended as {end}, its withdrawal requires {expected}", current)
