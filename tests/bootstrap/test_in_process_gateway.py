"""The in-process gateway on virtual time: how long each answer takes."""

import asyncio

import pytest

from bootstrap.in_process_gateway import InProcessGateway
from lab.virtual_time import run_on_virtual_time
from payment_gateway.books import Books
from payment_gateway.storage import MemoryStorage
from services.payment.gateway import GatewayCall
from services.payment.messages import Answer, Verb

AUTHORIZE = GatewayCall(order_id="k", verb=Verb.AUTHORIZE, amount_cents=4200, currency="EUR")
TIMEOUT_S, SETTLE_AFTER_S = 2.0, 5.0


async def call(injected: str | None, *, slow_s: float = 1.0, first_wait_s: float = 0.0) -> tuple[Answer, float]:
    """The answer to the last of one or two calls, and the virtual seconds that it took."""
    loop = asyncio.get_running_loop()
    books = Books(MemoryStorage(), now=loop.time, faults=True, settle_after_s=SETTLE_AFTER_S, slow_s=slow_s)
    gateway = InProcessGateway(books, "mode", timeout_s=TIMEOUT_S)
    if first_wait_s:
        await gateway.call(AUTHORIZE, injected)
        await asyncio.sleep(first_wait_s)
    begun = loop.time()
    answer = await gateway.call(AUTHORIZE, injected)
    return answer, loop.time() - begun


@pytest.mark.parametrize(
    ("injected", "slow_s", "answer", "took_s"),
    [
        (None, 1.0, Answer.AUTHORIZED, 0.0),
        ("hang", 1.0, Answer.IN_DOUBT, TIMEOUT_S),
        ("slow", 1.0, Answer.AUTHORIZED, 1.0),
        ("slow", 60.0, Answer.IN_DOUBT, TIMEOUT_S),
        ("drop", 1.0, Answer.IN_DOUBT, 0.0),
        ("error", 1.0, Answer.IN_DOUBT, 0.0),
    ],
)
def test_answer_takes_its_own_time_and_a_missing_one_the_timeout(
    injected: str | None, slow_s: float, answer: Answer, took_s: float
) -> None:
    got, got_s = run_on_virtual_time(call(injected, slow_s=slow_s))
    assert got is answer
    assert got_s == pytest.approx(took_s, abs=1e-5)


@pytest.mark.parametrize(("waited_s", "answer"), [(SETTLE_AFTER_S - 1, Answer.PENDING), (SETTLE_AFTER_S + 1, Answer.AUTHORIZED)])
def test_pending_payment_settles_in_virtual_time(waited_s: float, answer: Answer) -> None:
    assert run_on_virtual_time(call("pending", first_wait_s=waited_s))[0] is answer
