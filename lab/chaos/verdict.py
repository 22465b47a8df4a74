"""The verdict on a run: what was lost, doubled or is stuck, and the audit.

Pure: judges what was stored, booked, given up and heard after everything has healed and had time to end.
"""

from collections.abc import Collection, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from lab.chaos.evidence import Effect
from ops.audit import Audit, audit
from ops.snapshot import Snapshot
from services.inventory.domain import ReservationState
from services.order.domain import OrderState


@dataclass(frozen=True, slots=True)
class Remains:
    """What a run leaves. `accepted`: orders that the broker confirmed; `dead`: order -> why one of its messages was given up."""

    accepted: Collection[str]
    seen: Snapshot
    dead: Mapping[str, str] = field(default_factory=dict)
    effects: Mapping[Effect, int] = field(default_factory=dict)
    answers: Mapping[Effect, AbstractSet[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Verdict:
    """One sentence for each order (or message, or article) that is lost, doubled or stuck."""

    lost: tuple[str, ...]
    doubled: tuple[str, ...]
    stuck: tuple[str, ...]
    audit: Audit

    @property
    def ok(self) -> bool:
        return self.audit.ok and not (self.lost or self.doubled or self.stuck)


def judge(remains: Remains) -> Verdict:
    """Judge a run that has healed."""
    return Verdict(
        tuple(_lost(remains)),
        (*_effects_twice(remains), *_held_twice(remains.seen), *_paid_twice(remains.seen)),
        tuple(_stuck(remains)),
        audit(remains.seen),
    )


def _lost(remains: Remains) -> Iterator[str]:
    for order_id in sorted(remains.accepted):
        order = remains.seen.orders.get(order_id)
        if order is None:
            yield f"order {order_id} was accepted, and the order service does not know it"
        elif order.state is OrderState.TOMBSTONE:
            yield f"order {order_id} was accepted, and only its withdrawal arrived"


def _effects_twice(remains: Remains) -> Iterator[str]:
    for (worker, message_id, kind), count in sorted(remains.effects.items()):
        if count > 1:
            yield f"{worker} committed {kind} of message {message_id} {count} times"
    for (worker, kind, cause), message_ids in sorted(remains.answers.items()):
        if len(message_ids) > 1:
            yield f"{worker} answered {len(message_ids)} times with {kind} to message {cause}"


def _held_twice(seen: Snapshot) -> Iterator[str]:
    """Stock that is held for nobody: more than all reservations together."""
    held = [reservation for reservation in seen.reservations.values() if reservation.state is ReservationState.HELD]
    for sku, article in sorted(seen.stock.items()):
        reserved = sum(reservation.quantities.get(sku, 0) for reservation in held)
        if article.held > reserved:
            yield f"{article.held} units of {sku} are held, and orders have reserved {reserved}"


def _paid_twice(seen: Snapshot) -> Iterator[str]:
    for order_id, booked in sorted(seen.books.items()):
        order = seen.orders.get(order_id)
        total = order.details.total_cents if order and order.details else None
        if total is not None and booked.state == "authorized" and booked.amount_cents > total:
            yield f"order {order_id} costs {total} cents, and the gateway holds {booked.amount_cents}"


def _stuck(remains: Remains) -> Iterator[str]:
    for order_id, order in sorted(remains.seen.orders.items()):
        if order.is_open:
            yield f"order {order_id} is {order.state}" + (f": {order.attention.error}" if order.attention else "")
        elif order_id in remains.dead:
            yield f"order {order_id} has ended, and a message of it was given up: {remains.dead[order_id]}"
    for order_id in sorted(remains.dead.keys() - remains.seen.orders.keys()):
        yield f"a message of order {order_id} was given up: {remains.dead[order_id]}"
    for order_id, payment in sorted(remains.seen.payments.items()):
        if payment.due_at is not None:
            yield f"the payment of order {order_id} is {payment.state}"
