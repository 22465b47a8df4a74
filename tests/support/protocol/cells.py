"""The rows and columns of the tables in tests/services/test_state_tables.py: columns are documents, rows are commands."""

from collections.abc import Mapping

from broker.handler import Outcome
from broker.message import Message
from services.delivery.domain import DeliveryState, OrderDelivery
from services.delivery.messages import CancelDelivery, ScheduleDelivery
from services.inventory.domain import Reservation, ReservationState, Stock
from services.inventory.messages import ReleaseStock, ReserveStock
from services.order.domain import Order, OrderState
from services.order.messages import CompleteOrder, DeadlinePassed, MarkForAttention, PlaceOrder, RejectOrder, WithdrawOrder
from services.payment.domain import Payment, PaymentState
from services.payment.messages import Answer, AuthorizePayment, GatewayAnswered, PollGateway, Verb, VoidPayment
from services.registry import all_services
from services.vocabulary import Reason
from store.document import Document, Key
from tests.support.protocol.harness import NOW, TIMES, decide, details, order_id
from tests.support.protocol.tables import LETTERS, ORDER_LETTERS, TableFormatter

ID = order_id(1)
WANTED = details({"cup": 2, "pot": 1})
UNSERVED = details({"cup": 2, "pot": 1}, served=False)
SERVICES = all_services(TIMES)
TEN_YEARS_S = 10 * 365 * 86_400.0
POLL_INTERVAL_S, AUTHORIZE_TIMEOUT_S, DEADLINE_S = (
    TIMES.payment.poll_interval_s,
    TIMES.payment.authorize_timeout_s,
    TIMES.deadline_s,
)
X, R = LETTERS["x"], LETTERS["r"]

#: States in which a document waits for something, so that a timer must find it.
AT_WORK = ("PENDING", "VOIDING")


def waits(document: Document) -> bool:
    return getattr(document, "due_at", None) is not None


_PLACED = Order(order_id=ID, state=OrderState.PENDING, details=WANTED, placed_at=NOW, due_at=NOW + DEADLINE_S)
_ENDED = Order(order_id=ID, state=OrderState.COMPLETED, details=WANTED, placed_at=NOW, ended_at=NOW)
_REQUESTED = Payment(
    order_id=ID,
    state=PaymentState.PENDING,
    details=WANTED,
    authorize_until=NOW + AUTHORIZE_TIMEOUT_S,
    due_at=NOW + POLL_INTERVAL_S,
)
_VOIDING = _REQUESTED.voiding(X, NOW, TIMES.payment, void_requested=False)

#: service -> column -> the document in that state.
GIVEN: Mapping[str, Mapping[str, Document | None]] = {
    "order": {
        "none": None,
        "tombstone(w)": Order(order_id=ID, state=OrderState.TOMBSTONE, withdrawn=Reason.WITHDRAWN),
        "PENDING": _PLACED,
        "PENDING+w": _PLACED.copy_with(withdrawn=Reason.WITHDRAWN),
        "PENDING+d": _PLACED.copy_with(withdrawn=Reason.DEADLINE),
        "COMPLETED": _ENDED,
        "REJECTED(x)": _ENDED.copy_with(state=OrderState.REJECTED, reason=ORDER_LETTERS["x"]),
    },
    "inventory": {
        "none": None,
        "HELD": Reservation(order_id=ID, state=ReservationState.HELD, quantities={"cup": 2, "pot": 1}),
        "REJECTED(x)": Reservation(order_id=ID, state=ReservationState.REJECTED, reason=X),
        "RELEASED(x)": Reservation(order_id=ID, state=ReservationState.RELEASED, reason=X),
    },
    "payment": {
        "none": None,
        "PENDING": _REQUESTED,
        "VOIDING(x)": _VOIDING,
        "VOIDING(x, requested)": _VOIDING.copy_with(void_requested=True),
        "AUTHORIZED": _REQUESTED.ended(PaymentState.AUTHORIZED),
        "DECLINED(x)": _REQUESTED.ended(PaymentState.DECLINED, X),
        "VOIDED(x)": _REQUESTED.ended(PaymentState.VOIDED, X),
    },
    "delivery": {
        "none": None,
        "SCHEDULED": OrderDelivery(order_id=ID, state=DeliveryState.SCHEDULED, details=WANTED),
        "REJECTED(x)": OrderDelivery(order_id=ID, state=DeliveryState.REJECTED, reason=X),
        "CANCELLED(x)": OrderDelivery(order_id=ID, state=DeliveryState.CANCELLED, reason=X),
    },
}


def _answer(verb: Verb, answer: Answer) -> GatewayAnswered:
    return GatewayAnswered(order_id=ID, verb=verb, answer=answer)


#: row -> its command; r is the reason that it carries.
COMMANDS: Mapping[str, Message] = {
    "PlaceOrder": PlaceOrder(order_id=ID, details=WANTED),
    "WithdrawOrder(w)": WithdrawOrder(order_id=ID, reason=Reason.WITHDRAWN),
    "WithdrawOrder(d)": WithdrawOrder(order_id=ID, reason=Reason.DEADLINE),
    "timer at the deadline": DeadlinePassed(order_id=ID),
    "timer before the deadline": DeadlinePassed(order_id=ID),
    "CompleteOrder": CompleteOrder(order_id=ID),
    "RejectOrder(r)": RejectOrder(order_id=ID, reason=ORDER_LETTERS["r"]),
    "MarkForAttention": MarkForAttention(order_id=ID, step="ReleaseStock", error="no shelf"),
    "ReserveStock, enough": ReserveStock(order_id=ID, details=WANTED),
    "ReserveStock, too little": ReserveStock(order_id=ID, details=WANTED),
    "ReserveStock, no such sku": ReserveStock(order_id=ID, details=WANTED),
    "ReserveStock, injected": ReserveStock(order_id=ID, details=WANTED),
    "ReleaseStock(r)": ReleaseStock(order_id=ID, reason=R),
    "AuthorizePayment": AuthorizePayment(order_id=ID, details=WANTED),
    "VoidPayment(r)": VoidPayment(order_id=ID, reason=R),
    "gw authorized": _answer(Verb.AUTHORIZE, Answer.AUTHORIZED),
    "gw declined": _answer(Verb.AUTHORIZE, Answer.DECLINED),
    "gw voided, to authorize": _answer(Verb.AUTHORIZE, Answer.VOIDED),
    "gw pending": _answer(Verb.AUTHORIZE, Answer.PENDING),
    "gw in doubt, to authorize": _answer(Verb.AUTHORIZE, Answer.IN_DOUBT),
    "gw in doubt, to void": _answer(Verb.VOID, Answer.IN_DOUBT),
    "timer at due_at": PollGateway(order_id=ID),
    "timer before due_at": PollGateway(order_id=ID),
    "timer, authorization timeout": PollGateway(order_id=ID),
    "timer, escalation due": PollGateway(order_id=ID),
    "gw voided, to void": _answer(Verb.VOID, Answer.VOIDED),
    "ScheduleDelivery, served": ScheduleDelivery(order_id=ID, details=WANTED),
    "ScheduleDelivery, unserved": ScheduleDelivery(order_id=ID, details=UNSERVED),
    "ScheduleDelivery, injected": ScheduleDelivery(order_id=ID, details=WANTED),
    "CancelDelivery(r)": CancelDelivery(order_id=ID, reason=R),
}
#: row -> seconds after the document was written at which the command is handled; 0 if it is missing.
WHEN = {
    "timer at the deadline": DEADLINE_S,
    "timer at due_at": POLL_INTERVAL_S,
    "timer, authorization timeout": AUTHORIZE_TIMEOUT_S,
    "timer, escalation due": TIMES.payment.escalate_after_s,
}
#: row -> the failure that was injected with the order.
INJECTED = {"ReserveStock, injected": "out_of_stock", "ScheduleDelivery, injected": "undeliverable"}
#: row -> units available of each article. Where the reservation is HELD, two cups and a pot are held as well.
AVAILABLE: Mapping[str, Mapping[str, int]] = {
    "ReserveStock, too little": {"cup": 2, "pot": 0},
    "ReserveStock, no such sku": {"cup": 2},
}


def _stock(available: Mapping[str, int], held: Mapping[str, int]) -> dict[Key, Document]:
    articles = (
        Stock(sku=sku, received=units + held.get(sku, 0), available=units, held=held.get(sku, 0))
        for sku, units in available.items()
    )
    return {article.key: article for article in articles}


def play(row: str, given: Document | None, *, later_s: float = 0.0) -> Outcome:
    """Handle the command of that row with `given` and the stock as the only documents."""
    held = given.quantities if isinstance(given, Reservation) and given.state is ReservationState.HELD else {}
    stored = _stock(AVAILABLE.get(row, {"cup": 2, "pot": 1}), held) | ({given.key: given} if given else {})
    command = COMMANDS[row]
    handler = SERVICES[type(command).service].handlers[type(command)]
    return decide(handler, command, stored, now=NOW + later_s + WHEN.get(row, 0.0), injected=INJECTED.get(row))


def formatter_for(service: str, row: str) -> TableFormatter:
    """The formatter for the outcome of that row: the letters of its table, and the details that its command carries."""
    return TableFormatter(ORDER_LETTERS if service == "order" else LETTERS, getattr(COMMANDS[row], "details", WANTED))
