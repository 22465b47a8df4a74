"""A world: the real workers of one mode without broker or database, and the messages and calls in flight between them.

It imposes no order: its driver (driver.py at random, script.py by hand) chooses which item in flight arrives next. After every
step it checks the invariants that hold in every state (lab/invariants.py).
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from typing import TypeVar

import choreography.wiring
import orchestrator.wiring
from broker.handler import Outcome, ProtocolViolation
from broker.message import Message
from broker.role import Role
from lab.invariants import InvariantViolated, OrderSnapshot, check_step, check_stock
from orchestrator.saga import SagaRun
from services.delivery.domain import OrderDelivery
from services.inventory.domain import Reservation, Stock
from services.order.domain import Order, OrderState
from services.order.messages import DeadlinePassed, Refusal, WithdrawalRefused, WithdrawOrder
from services.payment.domain import Payment
from services.payment.gateway import GatewayCall
from services.payment.messages import Answer, GatewayAnswered, PollGateway
from services.registry import all_services
from services.vocabulary import Reason
from store.document import Document, Key
from tests.support.protocol.gateway_model import GatewayModel
from tests.support.protocol.harness import NOW, TIMES, decide

D = TypeVar("D", bound=Document)

MODES: Mapping[str, tuple[Role, ...]] = {
    "orchestrator": orchestrator.wiring.roles(all_services(TIMES)),
    "choreography": choreography.wiring.roles(all_services(TIMES)),
}
#: Kind of document -> the worker that stores it.
OWNER: Mapping[type[Document], str] = {
    Order: "order",
    Reservation: "inventory",
    Stock: "inventory",
    Payment: "payment",
    OrderDelivery: "delivery",
    SagaRun: "coordinator",
}


@dataclass(frozen=True, slots=True, eq=False)
class QueuedMessage:
    """A message in flight to one worker; `command` is what it means there. A driver by rank takes the lowest first."""

    to: str
    message: Message
    command: Message
    rank: float

    def __str__(self) -> str:
        meaning = "" if self.command is self.message else f" for {type(self.message).__name__}"
        return f"{self.to} handles {type(self.command).__name__}{meaning} ({self.message.order_id[-2:]})"


@dataclass(frozen=True, slots=True, eq=False)
class Request:
    """A call in flight to the gateway. `answered` False: its caller has crashed and receives no answer."""

    call: GatewayCall
    rank: float
    answered: bool = True

    def __str__(self) -> str:
        return f"the gateway handles {self.call.verb.value} ({self.call.order_id[-2:]})"


@dataclass(frozen=True, slots=True, eq=False)
class Reply:
    """An answer in flight from the gateway."""

    answer: GatewayAnswered
    rank: float

    def __str__(self) -> str:
        return f"payment receives {self.answer.answer.value} to {self.answer.verb.value} ({self.answer.order_id[-2:]})"


Item = QueuedMessage | Request | Reply


class World:
    """One mode's workers, their documents, and everything in flight between them and the gateway."""

    def __init__(
        self,
        mode: str,
        gateway: GatewayModel,
        stock: Mapping[str, int],
        *,
        roles: tuple[Role, ...] | None = None,
        rank: Callable[[], float] | None = None,
    ) -> None:
        """`roles`: replacements for the mode's own, for planted bugs. `rank`: ranks new items, by default as they come."""
        self.mode = mode
        self.gateway = gateway
        self.roles = {role.worker: role for role in roles or MODES[mode]}
        self.stored: dict[str, dict[Key, Document]] = {worker: {} for worker in self.roles}
        self.initial = dict(stock)
        for sku, units in stock.items():
            self.put("inventory", Stock(sku=sku, received=units, available=units))
        self.in_flight: list[Item] = []
        self.trace: list[str] = []
        #: What happened to each order, observed from commands and events and not from documents.
        self.first_withdrawal: dict[str, Reason] = {}
        self.payment_timed_out: set[str] = set()
        self.refusals: set[tuple[str, Refusal]] = set()
        self.deliveries: Counter[str] = Counter()
        #: (command, state it found) of everything handled.
        self.cells: set[tuple[str, str]] = set()
        tick = count()
        self._rank = rank or (lambda: float(next(tick)))
        self._order_snapshots: dict[str, OrderSnapshot] = {}

    # -- state

    def put(self, worker: str, document: Document) -> None:
        self.stored[worker][document.key] = document

    def find(self, kind: type[D], document_id: str) -> D | None:
        document = self.stored.get(OWNER[kind], {}).get(kind.key_of(document_id))
        assert document is None or isinstance(document, kind)
        return document

    def all_of(self, kind: type[D]) -> Iterator[D]:
        return (document for document in self.stored[OWNER[kind]].values() if isinstance(document, kind))

    def order_snapshot(self, number: str) -> OrderSnapshot:
        return OrderSnapshot(
            self.find(Order, number),
            self.find(Reservation, number),
            self.find(Payment, number),
            self.find(OrderDelivery, number),
            self.gateway.books.get(number),
            self.find(SagaRun, number),
        )

    # -- steps

    def publish(self, message: Message) -> None:
        """Put the message in flight to every worker that accepts it."""
        for worker, role in self.roles.items():
            if meaning := role.accepts.get(type(message)):
                self.in_flight.append(QueuedMessage(worker, message, meaning(message), self._rank()))

    def deliver(self, item: Item) -> None:
        """Deliver one item. It stays in flight unless the caller removes it, and can then be delivered again as a duplicate."""
        self.trace.append(str(item))
        if isinstance(item, QueuedMessage):
            self.deliveries[item.message.order_id] += 1
            self.handle(item.to, item.command)
        elif isinstance(item, Reply):
            self.handle("payment", item.answer)
        else:
            answer = self.gateway.handle(item.call.verb, item.call.order_id)
            if item.answered and answer is not None:
                self.reply(item, answer)
            self.check(item.call.order_id)

    def reply(self, request: Request, answer: Answer) -> None:
        answered = GatewayAnswered(order_id=request.call.order_id, verb=request.call.verb, answer=answer)
        self.in_flight.append(Reply(answered, self._rank()))

    def handle(self, worker: str, command: Message, *, now: float = NOW) -> None:
        """One worker handles one input and commits; the messages and calls of the commit are in flight afterwards."""
        outcome = self.decide(worker, command, now=now)
        self._watch(command, outcome)
        for document in outcome.documents:
            self.put(worker, document)
        for message in outcome.messages:
            self.publish(message)
        self._call(outcome, answered=True)
        self.check(command.order_id)

    def crash_before_commit(self, queued: QueuedMessage) -> None:
        """The worker that handles this message calls the gateway and crashes: nothing is committed, no answer is received."""
        self.trace.append(f"{queued}, calls the gateway and crashes before its commit")
        self._call(self.decide(queued.to, queued.command), answered=False)

    def decide(self, worker: str, command: Message, *, now: float = NOW) -> Outcome:
        handler = self.roles[worker].service.handlers[type(command)]
        try:
            return decide(handler, command, self.stored[worker], now=now)
        except ProtocolViolation as violation:
            raise InvariantViolated("never", str(violation)) from violation

    def _call(self, outcome: Outcome, *, answered: bool) -> None:
        for call in outcome.calls:
            assert isinstance(call, GatewayCall)
            self.in_flight.append(Request(call, self._rank(), answered))

    # -- time: a timer may fire for any document that waits, at any moment

    def poll_gateway(self, number: str) -> None:
        """Payment's timer fires after `due_at` and before the authorization timeout."""
        payment = self.find(Payment, number)
        assert payment is not None
        assert payment.due_at is not None
        self.trace.append(f"payment polls the gateway ({number[-2:]})")
        self.handle("payment", PollGateway(order_id=number), now=payment.due_at)

    def authorization_times_out(self, number: str) -> None:
        payment = self.find(Payment, number)
        assert payment is not None
        assert payment.authorize_until is not None
        self.trace.append(f"the authorization times out ({number[-2:]})")
        self.payment_timed_out.add(number)
        self.handle("payment", PollGateway(order_id=number), now=payment.authorize_until)

    def deadline_passes(self, number: str) -> None:
        order = self.find(Order, number)
        assert order is not None
        assert order.due_at is not None
        self.trace.append(f"the deadline passes ({number[-2:]})")
        self.handle("order", DeadlinePassed(order_id=number), now=order.due_at)

    # -- observation and checks

    def _watch(self, command: Message, outcome: Outcome) -> None:
        number = command.order_id
        self._note_cell(command)
        order = self.find(Order, number)
        pending = order is not None and order.state is OrderState.PENDING
        if isinstance(command, WithdrawOrder) and (pending or order is None):
            self.first_withdrawal.setdefault(number, command.reason)
        elif isinstance(command, DeadlinePassed) and pending:
            self.first_withdrawal.setdefault(number, Reason.DEADLINE)
        self.refusals.update((number, message.refusal) for message in outcome.messages if isinstance(message, WithdrawalRefused))

    def _note_cell(self, command: Message) -> None:
        for name, state in self.order_snapshot(command.order_id).states().items():
            if type(command).service == {"stock": "inventory"}.get(name, name):
                answer = f" {command.answer.value} to {command.verb.value}" if isinstance(command, GatewayAnswered) else ""
                self.cells.add((type(command).__name__ + answer, state))

    def check(self, number: str) -> None:
        """Check the invariants that hold in every state, for the order that was changed last."""
        before, now = self._order_snapshots.get(number, OrderSnapshot()), self.order_snapshot(number)
        check_step(before, now, self.mode)
        if now.reservation is not before.reservation:
            check_stock(self.all_of(Stock), self.all_of(Reservation), self.initial)
        self._order_snapshots[number] = now
