"""The audit finds planted damage, with at least one case for each promise.

A sound snapshot comes from a real run with orders of every kind. Each case damages it in one way, and the audit must report the
right promise and the right id.
"""

from collections.abc import Callable
from dataclasses import replace

import pytest

from bootstrap.backend import BookEntry
from bootstrap.modes import Mode
from ops.audit import IDS_NAMED, INVARIANTS, INVARIANTS_AT_REST, audit
from ops.snapshot import Snapshot
from services.delivery.domain import DeliveryState, OrderDelivery
from services.inventory.domain import Reservation, ReservationState
from services.order.domain import Order, OrderState
from services.payment.domain import Payment, PaymentState
from services.vocabulary import Reason
from tests.support.snapshots import ORPHAN, SoundSnapshot, every_kind
from tests.support.system import MODES, in_memory


@pytest.fixture(scope="module", params=MODES)
def sound(request: pytest.FixtureRequest) -> SoundSnapshot:
    return in_memory(Mode(request.param), every_kind)


STOCK = "stock: received = available + held, never negative"
WHOLE = "completed orders: stock held, payment authorized (also at the gateway), delivery scheduled"
NOTHING = "rejected orders: no stock held, no payment (also at the gateway), no delivery"
WHY = "rejected orders: the reason is recorded; after a withdrawal it is the withdrawal's"
HELD = "stock: units held = units in held reservations"
MONEY = "gateway: every payment that it holds belongs to an order"
ORPHANS = "every reservation, payment, delivery and saga belongs to an order"

Damage = Callable[[SoundSnapshot], Snapshot]

#: Name -> the damage, the promise that it breaks, and the id that the finding must name.
DAMAGE: dict[str, tuple[Damage, str, Callable[[SoundSnapshot], str]]] = {
    "a unit is missing from the stock": (lambda s: s.copy_with("stock", "book", available=7), STOCK, lambda _: "book"),
    "the stock has a unit too many": (lambda s: s.copy_with("stock", "book", available=9), STOCK, lambda _: "book"),
    "the available units are negative": (lambda s: s.copy_with("stock", "book", available=-2, held=12), STOCK, lambda _: "book"),
    "the held units are negative": (lambda s: s.copy_with("stock", "book", available=12, held=-2), STOCK, lambda _: "book"),
    "a completed order lost its reservation": (lambda s: s.without("reservations", s.completed), WHOLE, lambda s: s.completed),
    "a completed order's stock was released": (
        lambda s: s.copy_with("reservations", s.completed, state=ReservationState.RELEASED),
        WHOLE,
        lambda s: s.completed,
    ),
    "a completed order holds other quantities than ordered": (
        lambda s: s.copy_with("reservations", s.completed, quantities={"book": 1}),
        WHOLE,
        lambda s: s.completed,
    ),
    "a completed order has no payment": (lambda s: s.without("payments", s.completed), WHOLE, lambda s: s.completed),
    "a completed order's payment was voided": (
        lambda s: s.copy_with("payments", s.completed, state=PaymentState.VOIDED),
        WHOLE,
        lambda s: s.completed,
    ),
    "the gateway has no payment of a completed order": (lambda s: s.without("books", s.completed), WHOLE, lambda s: s.completed),
    "the gateway voided a completed order": (
        lambda s: s.copy_with("books", s.completed, state="voided"),
        WHOLE,
        lambda s: s.completed,
    ),
    "the payment of a completed order is pending at the gateway": (
        lambda s: s.copy_with("books", s.completed, state="pending"),
        WHOLE,
        lambda s: s.completed,
    ),
    "the gateway holds another amount than the order's total": (
        lambda s: s.copy_with("books", s.completed, amount_cents=2_499),
        WHOLE,
        lambda s: s.completed,
    ),
    "a completed order has no delivery": (lambda s: s.without("deliveries", s.completed), WHOLE, lambda s: s.completed),
    "a completed order's delivery was cancelled": (
        lambda s: s.copy_with("deliveries", s.completed, state=DeliveryState.CANCELLED),
        WHOLE,
        lambda s: s.completed,
    ),
    "a completed order lost its details": (
        lambda s: s.copy_with("orders", s.completed, details=None),
        WHOLE,
        lambda s: s.completed,
    ),
    "a rejected order holds stock": (
        lambda s: s.copy_with("reservations", s.declined, state=ReservationState.HELD),
        NOTHING,
        lambda s: s.declined,
    ),
    "a rejected order's payment is authorized": (
        lambda s: s.copy_with("payments", s.declined, state=PaymentState.AUTHORIZED),
        NOTHING,
        lambda s: s.declined,
    ),
    "a rejected order's payment is still pending": (
        lambda s: s.copy_with("payments", s.undeliverable, state=PaymentState.PENDING),
        NOTHING,
        lambda s: s.undeliverable,
    ),
    "the gateway holds a payment of a rejected order": (
        lambda s: s.copy_with("books", s.undeliverable, state="authorized"),
        NOTHING,
        lambda s: s.undeliverable,
    ),
    "a payment of a rejected order is pending at the gateway": (
        lambda s: s.copy_with("books", s.undeliverable, state="pending"),
        NOTHING,
        lambda s: s.undeliverable,
    ),
    "a rejected order has a delivery": (
        lambda s: s.copy_with("deliveries", s.undeliverable, state=DeliveryState.SCHEDULED),
        NOTHING,
        lambda s: s.undeliverable,
    ),
    "an order withdrawn before it was placed has a delivery": (
        lambda s: s.with_document("deliveries", s.withdrawn, OrderDelivery(order_id=s.withdrawn, state=DeliveryState.SCHEDULED)),
        NOTHING,
        lambda s: s.withdrawn,
    ),
    "an order that was withdrawn and never placed holds stock": (
        lambda s: replace(
            s.with_document("orders", ORPHAN, Order(order_id=ORPHAN, state=OrderState.TOMBSTONE, withdrawn=Reason.WITHDRAWN)),
            reservations={**s.snapshot.reservations, ORPHAN: Reservation(order_id=ORPHAN, state=ReservationState.HELD)},
        ),
        NOTHING,
        lambda _: ORPHAN,
    ),
    "an order that was withdrawn and never placed is paid": (
        lambda s: replace(
            s.with_document("orders", ORPHAN, Order(order_id=ORPHAN, state=OrderState.TOMBSTONE, withdrawn=Reason.WITHDRAWN)),
            books={**s.snapshot.books, ORPHAN: BookEntry("authorized", 1)},
        ),
        NOTHING,
        lambda _: ORPHAN,
    ),
    "a rejection without a reason": (lambda s: s.copy_with("orders", s.declined, reason=None), WHY, lambda s: s.declined),
    "a withdrawal that is not the reason": (
        lambda s: s.copy_with("orders", s.declined, withdrawn=Reason.WITHDRAWN),
        WHY,
        lambda s: s.declined,
    ),
    "more is held than reservations hold": (lambda s: s.copy_with("stock", "book", available=7, held=3), HELD, lambda _: "book"),
    "a reservation holds units that the stock does not have as held": (
        lambda s: s.with_document(
            "reservations", s.withdrawn, Reservation(order_id=s.withdrawn, state=ReservationState.HELD, quantities={"lamp": 1})
        ),
        HELD,
        lambda _: "lamp",
    ),
    "a reservation holds an article that does not exist": (
        lambda s: s.with_document(
            "reservations", s.withdrawn, Reservation(order_id=s.withdrawn, state=ReservationState.HELD, quantities={"ghost": 1})
        ),
        HELD,
        lambda _: "ghost",
    ),
    "the gateway holds a payment without an order": (
        lambda s: s.with_document("books", ORPHAN, BookEntry("authorized", 1)),
        MONEY,
        lambda _: ORPHAN,
    ),
    "a payment without an order is pending at the gateway": (
        lambda s: s.with_document("books", ORPHAN, BookEntry("pending", 1)),
        MONEY,
        lambda _: ORPHAN,
    ),
    "a reservation without an order": (
        lambda s: s.with_document("reservations", ORPHAN, Reservation(order_id=ORPHAN, state=ReservationState.REJECTED)),
        ORPHANS,
        lambda _: ORPHAN,
    ),
    "a payment without an order": (
        lambda s: s.with_document("payments", ORPHAN, Payment(order_id=ORPHAN, state=PaymentState.DECLINED)),
        ORPHANS,
        lambda _: ORPHAN,
    ),
    "a delivery without an order": (
        lambda s: s.with_document("deliveries", ORPHAN, OrderDelivery(order_id=ORPHAN, state=DeliveryState.SCHEDULED)),
        ORPHANS,
        lambda _: ORPHAN,
    ),
    "an order is missing and its documents exist": (lambda s: s.without("orders", s.completed), ORPHANS, lambda s: s.completed),
}


def test_every_promise_has_a_case() -> None:
    assert {promise for _, promise, _ in DAMAGE.values()} == set(INVARIANTS | INVARIANTS_AT_REST)


def test_a_sound_snapshot_has_no_findings(sound: SoundSnapshot) -> None:
    assert audit(sound.snapshot).findings == ()
    assert audit(sound.snapshot).open_orders == 0


@pytest.mark.parametrize("name", DAMAGE)
def test_planted_damage_is_found_under_its_promise(name: str, sound: SoundSnapshot) -> None:
    damage, promise, where = DAMAGE[name]
    verdict = audit(damage(sound))
    assert not verdict.ok
    found = {finding.promise: finding.ids for finding in verdict.findings}
    assert promise in found
    assert found[promise] == (where(sound),)


def test_an_open_order_is_counted_and_only_invariants_are_checked(sound: SoundSnapshot) -> None:
    """The databases may disagree about an open order, and not about an ended one."""
    opened = sound.copy_with("orders", sound.undeliverable, state=OrderState.PENDING, reason=None)
    assert audit(opened).ok
    assert audit(opened).open_orders == 1
    between = replace(opened, books={**opened.books, sound.undeliverable: BookEntry("authorized", 1_250)})
    assert audit(between).ok
    damaged = replace(opened, deliveries={})
    assert [finding.promise for finding in audit(damaged).findings] == [WHOLE]


@pytest.mark.parametrize("promise", [*INVARIANTS])
def test_invariants_are_checked_while_orders_are_open(promise: str, sound: SoundSnapshot) -> None:
    damage, _, where = next(case for case in DAMAGE.values() if case[1] == promise)
    pending = Order(order_id=ORPHAN, state=OrderState.PENDING)
    seen = damage(sound)
    verdict = audit(replace(seen, orders={**seen.orders, ORPHAN: pending}))
    assert verdict.open_orders == 1
    assert {finding.promise: finding.ids for finding in verdict.findings}[promise] == (where(sound),)


def test_findings_name_the_ids_in_order() -> None:
    assert IDS_NAMED > 0
    ids = [f"019b0000-0000-7000-8000-{number:012d}" for number in (3, 1, 2)]
    seen = Snapshot(books={order_id: BookEntry("authorized", 1) for order_id in ids})
    (finding,) = audit(seen).findings
    assert finding.ids == tuple(sorted(ids))


def test_an_empty_snapshot_has_no_findings() -> None:
    assert audit(Snapshot()).ok
