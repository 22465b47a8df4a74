"""The checkers of a run: they compare the history with what must hold, after every step and at the end.

Each violation names its checker. The checks of states are in lab/invariants.py, which the protocol tests use as well; the check
of all books at the end is ops/audit.py. The checks of messages are here: no effect twice, no state without its message, no
message without its state.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import TypeVar

from pydantic import ValidationError

from bootstrap.backend import BookEntry, GatewayBooks
from broker.message import Event
from broker.topology import dead_queue, queue_of
from lab.invariants import Decisions, InvariantViolated, OrderSnapshot, check_end, check_step
from lab.simulation.cluster import SimulatedCluster
from lab.simulation.history import SimulationHistory
from lab.simulation.plan import FaultKind, SimulationPlan
from ops.audit import audit
from ops.snapshot import Snapshot, take_snapshot
from orchestrator.saga import SagaRun
from services.delivery.domain import DeliveryState, OrderDelivery
from services.inventory.domain import Reservation, ReservationState, Stock
from services.message_types import CATALOGUE
from services.order.domain import Order, OrderState
from services.order.messages import OrderWithdrawn
from services.payment.domain import Payment, PaymentState
from services.payment.messages import Answer
from services.vocabulary import Reason
from store.document import Document
from store.memory import MemoryStore

#: The types of all events.
EVENT_TYPES = frozenset(name for name, kind in CATALOGUE.items() if issubclass(kind, Event))

D = TypeVar("D", bound=Document)

#: Suffixes of the injected failures after which an order may need attention.
COMPENSATION_FAULTS = ("undo_error", "void_error")

#: Collection -> state -> the states that the next commit may lead to. "" is the state before the first. One commit may handle two
#: messages of an order: a withdrawal, and the placing that it overtook, lead from "" to REJECTED.
ALLOWED_TRANSITIONS: dict[str, dict[str, set[str]]] = {
    Order.collection: {"": {"TOMBSTONE", "PENDING", "REJECTED"}, "TOMBSTONE": {"REJECTED"}, "PENDING": {"COMPLETED", "REJECTED"}},
    Reservation.collection: {"": {"HELD", "REJECTED", "RELEASED"}, "HELD": {"RELEASED"}},
    Payment.collection: {
        "": {"PENDING", "VOIDING"},
        "PENDING": {"AUTHORIZED", "DECLINED", "VOIDING"},
        "AUTHORIZED": {"VOIDING"},
        "VOIDING": {"VOIDED", "DECLINED"},
    },
    OrderDelivery.collection: {"": {"SCHEDULED", "REJECTED", "CANCELLED"}},
}


@dataclass(slots=True)
class RunChecker:
    """Checks one run. Install it with `history.on_change = checker.after_step`."""

    cluster: SimulatedCluster
    history: SimulationHistory
    _order_snapshots: dict[str, OrderSnapshot] = field(default_factory=dict)

    @property
    def plan(self) -> SimulationPlan:
        return self.cluster.plan

    # --- after every step ---------------------------------------------------------------------------------------------------

    def after_step(self, changed: set[str]) -> None:
        """Check the orders and stock that changed. `changed`: ids of documents."""
        for order_id in changed & set(self.cluster.order_ids.values()):
            before, now = self._order_snapshots.get(order_id, OrderSnapshot()), self._order_snapshot(order_id)
            self._order_snapshots[order_id] = now
            self._check_transitions(before, now, order_id)
            self._check_deadline(before, now, order_id)
            try:
                check_step(before, now, self.plan.mode)
            except InvariantViolated as broken:
                self.history.add_violation(f"state {broken.guarantee}", f"{self._label(order_id)}: {broken}")
        self._check_stock(changed)

    def _check_transitions(self, before: OrderSnapshot, now: OrderSnapshot, order_id: str) -> None:
        pairs = ((before.order, now.order), (before.reservation, now.reservation), (before.payment, now.payment))
        for old, new in (*pairs, (before.delivery, now.delivery)):
            if new is None:
                continue
            was = str(old.state) if old else ""
            if new.state != was and new.state not in ALLOWED_TRANSITIONS[new.collection].get(was, set()):
                self.history.add_violation(
                    "legal path", f"{self._label(order_id)}: {new.collection} went from {was or 'none'} to {new.state}"
                )

    def _check_deadline(self, before: OrderSnapshot, now: OrderSnapshot, order_id: str) -> None:
        """A deadline acts no earlier than its time by the order service's clock, which may be skewed by the plan."""
        if not (now.order and before.order and now.order.withdrawn is Reason.DEADLINE and not before.order.withdrawn):
            return
        off_s = sum(fault.for_s for fault in self.plan.faults_of(FaultKind.CLOCK_SKEW) if fault.where == "order")
        if self.cluster.now() + max(off_s, 0.0) < (before.order.due_at or 0.0) - 0.001:
            self.history.add_violation("waits are waited", f"{self._label(order_id)} was withdrawn before its deadline")

    def _check_stock(self, changed: set[str]) -> None:
        for sku in changed & self.plan.stock.keys():
            stock = self.history.states[Stock.collection, sku][-1]
            if stock["available"] < 0 or stock["available"] + stock["held"] != stock["received"]:
                self.history.add_violation("stock adds up", f"{sku}: {stock}")

    def _order_snapshot(self, order_id: str) -> OrderSnapshot:
        now = self.cluster.now()
        book_entry = self.cluster.storage.current_payment(self.plan.mode, order_id, now)
        return OrderSnapshot(
            order=self._latest(Order, order_id),
            reservation=self._latest(Reservation, order_id),
            payment=self._latest(Payment, order_id),
            delivery=self._latest(OrderDelivery, order_id),
            gateway=Answer(book_entry.state.value) if book_entry else None,
            run=self._latest(SagaRun, order_id),
        )

    def _latest(self, kind: type[D], document_id: str) -> D | None:
        states = self.history.states.get((kind.collection, document_id))
        return kind.from_body(states[-1]) if states else None

    def _label(self, order_id: str) -> str:
        return self.history.label_of(order_id)

    def check_attention(self, order_ids: set[str]) -> None:
        """Record the orders that need attention; only those with an injected failure of a compensation may."""
        self.history.needed_attention |= order_ids
        failing_orders = {
            fault.nth for fault in self.plan.faults_of(FaultKind.BUSINESS) if fault.where.endswith(COMPENSATION_FAULTS)
        }
        for number, order_id in self.cluster.order_ids.items():
            if order_id in order_ids and number not in failing_orders:
                self.history.add_violation(
                    "nothing given up", f"order {number} needs attention, and no compensation was made to fail"
                )

    # --- at the end ---------------------------------------------------------------------------------------------------------

    async def check_final_state(self, *, idle: bool) -> Snapshot:
        """Check everything at the end of a run. `idle`: whether the cluster became idle in time."""
        if not idle:
            self.history.add_violation("everything ends", f"still active: {self._describe_activity()}")
        for number, order_id in self.cluster.order_ids.items():
            self._check_end(number, order_id)
        self._check_withdrawals()
        self._check_effects_once()
        self._check_messages_match_states()
        self._check_dead_letters()
        try:
            snapshot = await self._snapshot()
        except ValidationError as error:
            self.history.add_violation("audit", f"a document cannot be read: {error.errors()[0]['msg']}")
            return Snapshot()
        for finding in audit(snapshot).findings:
            self.history.add_violation("audit", f"{finding.promise}: {', '.join(map(self._label, finding.ids))}")
        return snapshot

    def _check_end(self, number: int, order_id: str) -> None:
        now = self._order_snapshot(order_id)
        if now.order is None or now.order.state is OrderState.TOMBSTONE:
            self.history.add_violation("everything ends", f"order {number} was never accepted: {now.states()}")
            return
        try:
            check_end(now, decisions_of(now))
        except InvariantViolated as broken:
            name = "everything ends" if broken.guarantee == "G3" else f"state {broken.guarantee}"
            self.history.add_violation(name, f"order {number}: {broken}")

    def _check_withdrawals(self) -> None:
        """Every withdrawal is recorded in its order: as accepted (the customer's or the deadline's) or with why it was
        refused."""
        for fault in self.plan.faults_of(FaultKind.WITHDRAWAL):
            order = self._latest(Order, self.cluster.order_ids[fault.nth])
            if order and not (order.withdrawn or order.withdrawal_refused):
                self.history.add_violation(
                    "withdrawals count", f"order {fault.nth} is {order.state} without a record of its withdrawal"
                )

    def _describe_activity(self) -> str:
        waiting = [queue for queue in self.cluster.client.topology.live_queues() if len(self.cluster.broker.queue(queue))]
        outboxes = [name for name, database in self.cluster.databases.items() if database.outbox]
        timers = [name for name, database in self.cluster.databases.items() if any(database.due_index.values())]
        return f"queues {waiting}, outboxes {outboxes}, timers {timers}"

    def _check_effects_once(self) -> None:
        """One message has one effect: a worker commits no type of event or command twice for the same cause.

        OrderWithdrawn is excluded: it is published again at each deadline, and its cause is always the order's placing."""
        answers: Counter[tuple[str, str, str]] = Counter()
        for worker, wire in self.history.outbox_messages.values():
            if wire.type != OrderWithdrawn.type_name:
                answers[worker, str(wire.type), str(wire.headers.get("causation_id"))] += 1
        for (worker, kind, _), count in answers.items():
            if count > 1:
                self.history.add_violation("one effect a message", f"{worker} answered one message {count} times with {kind}")

    def _check_messages_match_states(self) -> None:
        consumed_types = {kind for queue in self.cluster.client.topology.queues for kind in queue.listens_to}
        for message_id, (worker, wire) in self.history.outbox_messages.items():
            is_unconsumed = str(wire.type) in EVENT_TYPES and str(wire.type) not in consumed_types  # no queue needs to receive it
            if message_id not in self.history.published_ids or not (is_unconsumed or message_id in self.history.routed_ids):
                self.history.add_violation(
                    "no state without its message", f"{worker}: {self.history.describe(wire)} never arrived"
                )
        for message_id, (process, description) in self.history.worker_messages.items():
            if message_id not in self.history.outbox_messages:
                self.history.add_violation(
                    "no message without its state", f"{process} published {description}, which no commit had in its outbox"
                )

    def _check_dead_letters(self) -> None:
        """Only workers with an injected failure at every attempt may have dead letters."""
        failures = [failure for fault in self.plan.faults_of(FaultKind.BUSINESS) for failure in fault.where.split(",")]
        allowed_workers = {failure.partition(":")[0] for failure in failures if failure.endswith("error")}
        for queue in self.cluster.client.topology.queues:
            name = dead_queue(queue_of(self.plan.mode, queue.worker))
            if queue.worker not in allowed_workers and len(self.cluster.broker.queue(name)):
                reasons = {str(wire.headers.get("dead_reason")) for wire in self.cluster.broker.dead_letters(queue.worker)}
                self.history.add_violation("nothing given up", f"{queue.worker} has dead letters: {sorted(reasons)}")

    async def _snapshot(self) -> Snapshot:
        page = await self.cluster.payment_books.page(self.plan.mode, limit=1_000_000)
        payments = {key: BookEntry(payment.state.value, payment.amount_cents or 0) for key, payment in page}
        stores = {name: MemoryStore(database) for name, database in self.cluster.databases.items()}
        return await take_snapshot(stores, GatewayBooks(payments))


def decisions_of(now: OrderSnapshot) -> Decisions:
    """What the services decided about an order that has ended, read from their documents."""
    stock = now.reservation.reason if now.reservation and now.reservation.state is ReservationState.REJECTED else None
    declined = now.payment.reason if now.payment and now.payment.state is PaymentState.DECLINED else None
    refused = now.delivery is not None and now.delivery.state is DeliveryState.REJECTED
    return Decisions(
        stock=stock,
        gateway_refuses=declined is Reason.PAYMENT_DECLINED,
        delivery_refuses=refused,
        withdrawn=now.order.withdrawn if now.order else None,
        payment_timed_out=declined is Reason.PAYMENT_TIMEOUT,
    )
