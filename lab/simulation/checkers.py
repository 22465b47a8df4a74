"""The checkers: promises held against the history of a run, after every step and at its end. Each finding names its checker.

The state checks are `lab.invariants`, which the protocol tests use as well; the books at the end are
`ops.audit`. What is here besides looks at messages: no effect twice, no state without its message, no message without its state.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import TypeVar

from pydantic import ValidationError

from bootstrap.backend import Booked, GatewayBooks
from broker.message import Event
from broker.topology import dead_queue, queue_of
from lab.invariants import Broken, Decisions, Picture, check_end, check_step
from lab.simulation.history import History
from lab.simulation.plan import Kind, Plan
from lab.simulation.world import World
from ops.audit import audit
from ops.snapshot import Snapshot, snapshot
from orchestrator.saga import SagaRun
from services.delivery.domain import Delivery, DeliveryState
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
EVENTS = frozenset(name for name, kind in CATALOGUE.items() if issubclass(kind, Event))

D = TypeVar("D", bound=Document)

#: How the failures end in name after which an order may need a person.
UNDO_FAILURES = ("undo_error", "void_error")

#: Document states and the states that the next commit may leave. "" is before the first. One commit may hold two messages of an
#: order: a withdrawal and the placing that it overtook go from nothing to REJECTED.
PATHS: dict[str, dict[str, set[str]]] = {
    Order.collection: {"": {"TOMBSTONE", "PENDING", "REJECTED"}, "TOMBSTONE": {"REJECTED"}, "PENDING": {"COMPLETED", "REJECTED"}},
    Reservation.collection: {"": {"HELD", "REJECTED", "RELEASED"}, "HELD": {"RELEASED"}},
    Payment.collection: {
        "": {"PENDING", "VOIDING"},
        "PENDING": {"AUTHORIZED", "DECLINED", "VOIDING"},
        "AUTHORIZED": {"VOIDING"},
        "VOIDING": {"VOIDED", "DECLINED"},
    },
    Delivery.collection: {"": {"SCHEDULED", "REJECTED", "CANCELLED"}},
}


@dataclass(slots=True)
class Judge:
    """Watches one run. Install it with `history.on_change = judge.after_step`."""

    world: World
    history: History
    _pictures: dict[str, Picture] = field(default_factory=dict)

    @property
    def plan(self) -> Plan:
        return self.world.plan

    # --- after every step ---------------------------------------------------------------------------------------------------

    def after_step(self, changed: set[str]) -> None:
        """Hold the orders that changed against what must hold in every state."""
        for order_id in changed & set(self.world.order_ids.values()):
            before, now = self._pictures.get(order_id, Picture()), self._picture(order_id)
            self._pictures[order_id] = now
            self._legal_paths(before, now, order_id)
            self._waited(before, now, order_id)
            try:
                check_step(before, now, self.plan.mode)
            except Broken as broken:
                self.history.found(f"state {broken.guarantee}", f"{self._name(order_id)}: {broken}")
        self._stock(changed)

    def _legal_paths(self, before: Picture, now: Picture, order_id: str) -> None:
        pairs = ((before.order, now.order), (before.reservation, now.reservation), (before.payment, now.payment))
        for old, new in (*pairs, (before.delivery, now.delivery)):
            if new is None:
                continue
            was = str(old.state) if old else ""
            if new.state != was and new.state not in PATHS[new.collection].get(was, set()):
                self.history.found(
                    "legal path", f"{self._name(order_id)}: {new.collection} went from {was or 'none'} to {new.state}"
                )

    def _waited(self, before: Picture, now: Picture, order_id: str) -> None:
        """A deadline acts when it has come, by the clock of the order service (which may be off, as the plan says)."""
        if not (now.order and before.order and now.order.withdrawn is Reason.DEADLINE and not before.order.withdrawn):
            return
        off_s = sum(fault.for_s for fault in self.plan.of(Kind.SKEW) if fault.where == "order")
        if self.world.now() + max(off_s, 0.0) < (before.order.due_at or 0.0) - 0.001:
            self.history.found("waits are waited", f"{self._name(order_id)} met its deadline before its time")

    def _stock(self, changed: set[str]) -> None:
        for sku in changed & self.plan.shelf.keys():
            shelf = self.history.states[Stock.collection, sku][-1]
            if shelf["available"] < 0 or shelf["available"] + shelf["held"] != shelf["received"]:
                self.history.found("stock adds up", f"{sku}: {shelf}")

    def _picture(self, order_id: str) -> Picture:
        now = self.world.now()
        booked = self.world.storage.now_known(self.plan.mode, order_id, now)
        return Picture(
            order=self._latest(Order, order_id),
            reservation=self._latest(Reservation, order_id),
            payment=self._latest(Payment, order_id),
            delivery=self._latest(Delivery, order_id),
            gateway=Answer(booked.state.value) if booked else None,
            run=self._latest(SagaRun, order_id),
        )

    def _latest(self, kind: type[D], document_id: str) -> D | None:
        states = self.history.states.get((kind.collection, document_id))
        return kind.from_body(states[-1]) if states else None

    def _name(self, order_id: str) -> str:
        return self.history.called(order_id)

    def may_be_stuck(self, order_ids: set[str]) -> None:
        """Orders need attention only where a compensation was made to fail."""
        self.history.once_stuck |= order_ids
        failing = {fault.nth for fault in self.plan.of(Kind.BUSINESS) if fault.where.endswith(UNDO_FAILURES)}
        for number, order_id in self.world.order_ids.items():
            if order_id in order_ids and number not in failing:
                self.history.found("nothing given up", f"order {number} needs attention, and nothing was made to fail for good")

    # --- at the end ---------------------------------------------------------------------------------------------------------

    async def at_the_end(self, *, rested: bool) -> Snapshot:
        """Everything has healed and come to rest, or should have."""
        if not rested:
            self.history.found("everything ends", f"no rest: {self._what_moves()}")
        for number, order_id in self.world.order_ids.items():
            self._end(number, order_id)
        self._withdrawals_count()
        self._effects_once()
        self._messages_and_states()
        self._dead_letters()
        try:
            seen = await self._snapshot()
        except ValidationError as error:
            self.history.found("audit", f"a document cannot be read: {error.errors()[0]['msg']}")
            return Snapshot()
        for finding in audit(seen).findings:
            self.history.found("audit", f"{finding.promise}: {', '.join(map(self._name, finding.ids))}")
        return seen

    def _end(self, number: int, order_id: str) -> None:
        now = self._picture(order_id)
        if now.order is None or now.order.state is OrderState.TOMBSTONE:
            self.history.found("everything ends", f"order {number} was never taken in: {now.states()}")
            return
        try:
            check_end(now, decisions_of(now))
        except Broken as broken:
            name = "everything ends" if broken.guarantee == "G3" else f"state {broken.guarantee}"
            self.history.found(name, f"order {number}: {broken}")

    def _withdrawals_count(self) -> None:
        """A customer who withdraws is heard: the order keeps the withdrawal (his or the deadline's), or why it was refused."""
        for fault in self.plan.of(Kind.WITHDRAWAL):
            order = self._latest(Order, self.world.order_ids[fault.nth])
            if order and not (order.withdrawn or order.withdrawal_refused):
                self.history.found("withdrawals count", f"order {fault.nth} is {order.state} and knows nothing of its withdrawal")

    def _what_moves(self) -> str:
        waiting = [queue for queue in self.world.door.topology.live_queues() if len(self.world.broker.queue(queue))]
        owing = [name for name, database in self.world.databases.items() if database.outbox]
        due = [name for name, database in self.world.databases.items() if any(database.waiting.values())]
        return f"queues {waiting}, outboxes {owing}, waits {due}"

    def _effects_once(self) -> None:
        """Of one message a worker makes one effect: it never publishes the same kind of answer twice for the same cause.

        A withdrawal that is published again at a deadline is meant; it has no cause but the order's placing."""
        answers: Counter[tuple[str, str, str]] = Counter()
        for worker, wire in self.history.owed.values():
            if wire.type != OrderWithdrawn.type_name:
                answers[worker, str(wire.type), str(wire.headers.get("causation_id"))] += 1
        for (worker, kind, _), count in answers.items():
            if count > 1:
                self.history.found("one effect a message", f"{worker} answered {count} times with {kind} to one message")

    def _messages_and_states(self) -> None:
        heard = {kind for queue in self.world.door.topology.queues for kind in queue.listens_to}
        for message_id, (worker, wire) in self.history.owed.items():
            is_fact = str(wire.type) in EVENTS and str(wire.type) not in heard  # it need not reach anybody
            if message_id not in self.history.published or not (is_fact or message_id in self.history.routed):
                self.history.found("no state without its message", f"{worker}: {self.history.about(wire)} never arrived")
        for message_id, (who, about) in self.history.sent_by_workers.items():
            if message_id not in self.history.owed:
                self.history.found("no message without its state", f"{who} published {about}, and no commit owed it")

    def _dead_letters(self) -> None:
        """Only what was asked to fail at every attempt may be given up."""
        failures = [failure for fault in self.plan.of(Kind.BUSINESS) for failure in fault.where.split(",")]
        excused = {failure.partition(":")[0] for failure in failures if failure.endswith("error")}
        for queue in self.world.door.topology.queues:
            name = dead_queue(queue_of(self.plan.mode, queue.worker))
            if queue.worker not in excused and len(self.world.broker.queue(name)):
                reasons = {str(wire.headers.get("dead_reason")) for wire in self.world.broker.dead_letters(queue.worker)}
                self.history.found("nothing given up", f"{queue.worker} has dead letters: {sorted(reasons)}")

    async def _snapshot(self) -> Snapshot:
        page = await self.world.bank.page(self.plan.mode, limit=1_000_000)
        payments = {key: Booked(payment.state.value, payment.amount_cents or 0) for key, payment in page}
        stores = {name: MemoryStore(database) for name, database in self.world.databases.items()}
        return await snapshot(stores, GatewayBooks(payments))


def decisions_of(now: Picture) -> Decisions:
    """What the services decided about an order that has come to rest, read from their documents."""
    stock = now.reservation.reason if now.reservation and now.reservation.state is ReservationState.REJECTED else None
    declined = now.payment.reason if now.payment and now.payment.state is PaymentState.DECLINED else None
    refused = now.delivery is not None and now.delivery.state is DeliveryState.REJECTED
    return Decisions(
        stock=stock,
        gateway_refuses=declined is Reason.PAYMENT_DECLINED,
        delivery_refuses=refused,
        withdrawn=now.order.withdrawn if now.order else None,
        patience_over=declined is Reason.PAYMENT_TIMEOUT,
    )
