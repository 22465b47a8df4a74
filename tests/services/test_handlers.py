"""What the tables of docs/protocol.md#state-tables do not show: stock that moves, calls to the gateway, when waits end."""

import pytest

from broker.handler import Call, Outcome
from services.inventory.domain import Stock
from services.order.domain import Order
from services.order.messages import DeadlinePassed, Refusal
from services.payment.domain import Payment
from services.payment.gateway import GatewayCall
from services.payment.messages import PollGateway, Verb
from services.vocabulary import Reason
from store.document import Document, Key
from tests.support.protocol.cells import AUTHORIZE_TIMEOUT_S, DEADLINE_S, GIVEN, ID, POLL_INTERVAL_S, SERVICES, WANTED, play
from tests.support.protocol.harness import NOW, decide


def stock_after(row: str, column: str) -> dict[str, tuple[int, int]]:
    """SKU -> (available, held) of the stock that the handler wrote."""
    outcome = play(row, GIVEN["inventory"][column])
    return {article.sku: (article.available, article.held) for article in outcome.documents if isinstance(article, Stock)}


def test_reserving_moves_units_from_available_to_held() -> None:
    assert stock_after("ReserveStock, enough", "none") == {"cup": (0, 2), "pot": (0, 1)}


@pytest.mark.parametrize("why", ["too little", "no such sku", "injected"])
def test_reserving_is_all_or_nothing(why: str) -> None:
    assert stock_after(f"ReserveStock, {why}", "none") == {}


def test_releasing_returns_what_the_reservation_held() -> None:
    assert stock_after("ReleaseStock(r)", "HELD") == {"cup": (4, 0), "pot": (2, 0)}


@pytest.mark.parametrize("row", ["ReserveStock, enough", "ReleaseStock(r)"])
@pytest.mark.parametrize("column", ["REJECTED(x)", "RELEASED(x)"])
def test_a_reservation_that_has_ended_moves_no_stock(row: str, column: str) -> None:
    assert stock_after(row, column) == {}


def test_a_repeated_reservation_moves_no_stock() -> None:
    assert stock_after("ReserveStock, enough", "HELD") == {}


@pytest.mark.parametrize(
    ("row", "column", "call"),
    [
        ("AuthorizePayment", "none", GatewayCall(ID, Verb.AUTHORIZE, WANTED.total_cents, "EUR")),
        ("timer at due_at", "PENDING", GatewayCall(ID, Verb.AUTHORIZE, WANTED.total_cents, "EUR")),
        ("VoidPayment(r)", "AUTHORIZED", GatewayCall(ID, Verb.VOID, WANTED.total_cents, "EUR")),
        ("VoidPayment(r)", "none", GatewayCall(ID, Verb.VOID, 0, "")),
    ],
)
def test_a_call_has_the_order_and_its_amount(row: str, column: str, call: Call) -> None:
    assert play(row, GIVEN["payment"][column]).calls == (call,)


def polled_at(payment: Payment, now: float) -> Outcome:
    return decide(SERVICES["payment"].handlers[PollGateway], PollGateway(order_id=ID), {payment.key: payment}, now=now)


def test_a_pending_payment_is_polled_until_its_authorization_timeout() -> None:
    (payment,) = play("AuthorizePayment", None).documents
    polls = 0
    while isinstance(payment, Payment) and payment.state == "PENDING":
        assert payment.due_at is not None
        assert payment.due_at <= NOW + AUTHORIZE_TIMEOUT_S
        outcome = polled_at(payment, payment.due_at)
        (payment,) = outcome.documents
        polls += 1
    assert polls == AUTHORIZE_TIMEOUT_S / POLL_INTERVAL_S
    assert isinstance(payment, Payment)
    assert (payment.state, payment.reason, payment.void_requested) == ("VOIDING", Reason.PAYMENT_TIMEOUT, False)


def test_a_void_is_repeated_without_end() -> None:
    payment = GIVEN["payment"]["VOIDING(x)"]
    for _ in range(100):
        assert isinstance(payment, Payment)
        assert payment.due_at is not None
        outcome = polled_at(payment, payment.due_at)
        assert [call.verb for call in outcome.calls if isinstance(call, GatewayCall)] == [Verb.VOID]
        (payment,) = outcome.documents


def test_a_withdrawn_pending_order_repeats_its_withdrawal_when_due() -> None:
    order = GIVEN["order"]["PENDING+w"]
    for _ in range(3):
        assert isinstance(order, Order)
        assert order.due_at is not None
        stored: dict[Key, Document] = {order.key: order}
        outcome = decide(SERVICES["order"].handlers[DeadlinePassed], DeadlinePassed(order_id=ID), stored, now=order.due_at)
        assert [type(message).__name__ for message in outcome.messages] == ["OrderWithdrawn"]
        (after,) = outcome.documents
        assert isinstance(after, Order)
        assert after.due_at == order.due_at + DEADLINE_S
        order = after


def ended(row: str, column: str) -> Order:
    (order,) = play(row, GIVEN["order"][column]).documents
    assert isinstance(order, Order)
    return order


def test_a_completed_order_stores_a_withdrawal_that_came_too_late() -> None:
    assert ended("CompleteOrder", "PENDING+w").withdrawal_refused is Refusal.TOO_LATE


def test_an_order_completed_after_its_deadline_has_no_refusal() -> None:
    assert ended("CompleteOrder", "PENDING+d").withdrawal_refused is None


def test_an_ended_order_stores_that_it_refused_a_withdrawal() -> None:
    assert ended("WithdrawOrder(w)", "COMPLETED").withdrawal_refused is Refusal.ALREADY_ENDED


def test_an_order_rejected_by_its_tombstone_keeps_what_was_ordered() -> None:
    order = ended("PlaceOrder", "tombstone(w)")
    assert (order.details, order.placed_at, order.ended_at) == (WANTED, NOW, NOW)
