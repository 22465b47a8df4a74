"""The verdict on a run: what was lost, doubled or is stuck, and the audit.

Pure: judges the stored documents, the gateway's books, the dead letters and the recorded evidence after healing and draining.
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
class RunResult:
    """What a run left. `accepted`: orders that the broker confirmed. `dead`: order -> why a message of it was dead-lettered."""

    accepted: Collection[str]
    snapshot: Snapshot
    dead: Mapping[str, str] = field(default_factory=dict)
    effects: Mapping[Effect, int] = field(default_factory=dict)
    answers: Mapping[Effect, AbstractSet[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ChaosVerdict:
    """One sentence for each order, message or article that is lost, doubled or stuck."""

    lost: tuple[str, ...]
    doubled: tuple[str, ...]
    stuck: tuple[str, ...]
    audit: Audit

    @property
    def ok(self) -> bool:
        return self.audit.ok and not (self.lost or self.doubled or self.stuck)


def evaluate_run(run_result: RunResult) -> ChaosVerdict:
    """Judge a run after it has healed and drained."""
    return ChaosVerdict(
        tuple(_lost(run_result)),
        (*_effects_twice(run_result), *_held_twice(run_result.snapshot), *_paid_twice(run_result.snapshot)),
        tuple(_stuck(run_result)),
        audit(run_result.snapshot),
    )


def _lost(run_result: RunResult) -> Iterator[str]:
    for order_id in sorted(run_result.accepted):
        order = run_result.snapshot.orders.get(order_id)
        if order is None:
            yield f"order {order_id} was accepted, but the order service has no record of it"
        elif order.state is OrderState.TOMBSTONE:
            yield f"order {order_id} was accepted, but only its withdrawal arrived"


def _effects_twice(run_result: RunResult) -> Iterator[str]:
    for (worker, message_id, kind), count in sorted(run_result.effects.items()):
        if count > 1:
            yield f"{worker} committed {kind} of message {message_id} {count} times"
    for (worker, kind, cause), message_ids in sorted(run_result.answers.items()):
        if len(message_ids) > 1:
            yield f"{worker} answered {len(message_ids)} times with {kind} to message {cause}"


def _held_twice(snapshot: Snapshot) -> Iterator[str]:
    """Stock that is held without a reservation: more than all held reservations together."""
    held = [reservation for reservation in snapshot.reservations.values() if reservation.state is ReservationState.HELD]
    for sku, article in sorted(snapshot.stock.items()):
        reserved = sum(reservation.quantities.get(sku, 0) for reservation in held)
        if article.held > reserved:
            yield f"{article.held} units of {sku} are held, but orders have reserved {reserved}"


def _paid_twice(snapshot: Snapshot) -> Iterator[str]:
    for order_id, book_entry in sorted(snapshot.books.items()):
        order = snapshot.orders.get(order_id)
        total = order.details.total_cents if order and order.details else None
        if total is not None and book_entry.state == "authorized" and book_entry.amount_cents > total:
            yield f"order {order_id} costs {total} cents, but the gateway holds {book_entry.amount_cents}"


def _stuck(run_result: RunResult) -> Iterator[str]:
    for order_id, order in sorted(run_result.snapshot.orders.items()):
        if order.is_open:
            yield f"order {order_id} is {order.state}" + (f": {order.attention.error}" if order.attention else "")
        elif order_id in run_result.dead:
            yield f"order {order_id} has ended, but a message of it was dead-lettered: {run_result.dead[order_id]}"
    for order_id in sorted(run_result.dead.keys() - run_result.snapshot.orders.keys()):
        yield f"a message of order {order_id} was dead-lettered: {run_result.dead[order_id]}"
    for order_id, payment in sorted(run_result.snapshot.payments.items()):
        if payment.due_at is not None:
            yield f"the payment of order {order_id} is {payment.state}"
