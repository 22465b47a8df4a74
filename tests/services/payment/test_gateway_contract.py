"""The contract of the payment gateway's clients: one suite for the gateway in this process and for one in its own process.

The latter is called by `HttpGateway`. What the gateway holds is read from the gateway itself.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from itertools import count
from typing import Any, Protocol
from uuid import uuid4

import aiohttp
import pytest

from bootstrap.in_process_gateway import InProcessGateway
from payment_gateway.books import Books
from payment_gateway.storage import MemoryStorage
from services.payment.gateway import GatewayCall, PaymentGateway
from services.payment.gateway_http import HttpGateway
from services.payment.messages import Answer, Verb
from tests.support.gateway_process import SETTLE_AFTER_S, SLOW_S

#: How long the clients wait for an answer: longer than a slow one takes, with a margin for a busy machine.
TIMEOUT_S = 1.5

AUTHORIZE_FAILURES = ("declined", "pending", "hang", "drop", "error", "slow")

_numbers = count(1)


class Place(Protocol):
    """A gateway and its books."""

    def client(self, book: str, timeout_s: float = TIMEOUT_S) -> PaymentGateway: ...

    async def payments(self, book: str) -> dict[str, tuple[str, int | None]]: ...

    async def acted(self, book: str) -> dict[str, list[str]]: ...

    async def empty(self, book: str) -> None: ...


class InThisProcess:
    def __init__(self) -> None:
        self._books = Books(MemoryStorage(), now=time.monotonic, faults=True, settle_after_s=SETTLE_AFTER_S, slow_s=SLOW_S)

    def client(self, book: str, timeout_s: float = TIMEOUT_S) -> PaymentGateway:
        return InProcessGateway(self._books, book, timeout_s=timeout_s)

    async def payments(self, book: str) -> dict[str, tuple[str, int | None]]:
        return {key: (payment.state.value, payment.amount_cents) for key, payment in await self._books.page(book)}

    async def acted(self, book: str) -> dict[str, list[str]]:
        return {failure.value: keys for failure, keys in (await self._books.acted(book)).items()}

    async def empty(self, book: str) -> None:
        await self._books.empty(book)


class InItsOwnProcess:
    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self._url = url
        self._session = session

    def client(self, book: str, timeout_s: float = TIMEOUT_S) -> PaymentGateway:
        return HttpGateway(self._url, book, timeout_s=timeout_s)

    async def payments(self, book: str) -> dict[str, tuple[str, int | None]]:
        listed = (await self._get(f"{book}/payments"))["payments"]
        return {payment["key"]: (payment["state"], payment["amount_cents"]) for payment in listed}

    async def acted(self, book: str) -> dict[str, list[str]]:
        keys: dict[str, list[str]] = (await self._get(f"{book}/failures?detail=1"))["keys"]
        return keys

    async def empty(self, book: str) -> None:
        async with self._session.delete(f"{self._url}/{book}") as response:
            assert response.status == 204

    async def _get(self, path: str) -> Any:
        async with self._session.get(f"{self._url}/{path}") as response:
            assert response.status == 200
            return await response.json()


@pytest.fixture(params=["in this process", "in its own process"])
async def place(request: pytest.FixtureRequest) -> AsyncIterator[Place]:
    if request.param == "in this process":
        yield InThisProcess()
        return
    url = request.getfixturevalue("gateway_url")
    async with aiohttp.ClientSession() as session:
        yield InItsOwnProcess(url, session)


@pytest.fixture
def book() -> str:
    return f"test-{next(_numbers)}-{uuid4().hex[:8]}"


@pytest.fixture
async def gateway(place: Place, book: str) -> AsyncIterator[PaymentGateway]:
    made = place.client(book)
    yield made
    await made.close()


def authorization(key: str = "k", amount_cents: int = 4200) -> GatewayCall:
    return GatewayCall(order_id=key, verb=Verb.AUTHORIZE, amount_cents=amount_cents, currency="EUR")


def voiding(key: str = "k") -> GatewayCall:
    return GatewayCall(order_id=key, verb=Verb.VOID, amount_cents=4200, currency="EUR")


async def eventually(answer: Answer, ask: Callable[[], Awaitable[Answer]], within_s: float = 10.0) -> None:
    deadline = time.monotonic() + within_s
    while (got := await ask()) is not answer:
        assert time.monotonic() < deadline, f"waited {within_s} s for {answer}, the last answer was {got}"
        await asyncio.sleep(0.02)


async def test_a_new_payment_is_authorized_and_held(place: Place, gateway: PaymentGateway, book: str) -> None:
    assert await gateway.call(authorization()) is Answer.AUTHORIZED
    assert await place.payments(book) == {"k": ("authorized", 4200)}
    assert await place.acted(book) == {}


async def test_a_repeated_authorization_is_the_same_payment(place: Place, gateway: PaymentGateway, book: str) -> None:
    answers = await asyncio.gather(*(gateway.call(authorization()) for _ in range(20)))
    assert set(answers) == {Answer.AUTHORIZED}
    assert await place.payments(book) == {"k": ("authorized", 4200)}


async def test_a_declined_payment_stays_declined(place: Place, gateway: PaymentGateway, book: str) -> None:
    assert await gateway.call(authorization(), "declined") is Answer.DECLINED
    assert await gateway.call(authorization()) is Answer.DECLINED
    assert await place.payments(book) == {"k": ("declined", 4200)}
    assert await place.acted(book) == {"declined": ["k"]}


async def test_a_pending_payment_settles_to_authorized(place: Place, gateway: PaymentGateway, book: str) -> None:
    assert await gateway.call(authorization(), "pending") is Answer.PENDING
    await eventually(Answer.AUTHORIZED, lambda: gateway.call(authorization(), "pending"))
    assert await place.payments(book) == {"k": ("authorized", 4200)}
    assert await place.acted(book) == {"pending": ["k"]}


async def test_a_hanging_call_is_in_doubt_and_the_money_is_held(place: Place, book: str) -> None:
    for timeout_s in (1.0, 0.1):
        short_timeout = place.client(book, timeout_s=timeout_s)
        assert await short_timeout.call(authorization(), "hang") is Answer.IN_DOUBT
        await short_timeout.close()
    assert await place.payments(book) == {"k": ("authorized", 4200)}
    assert await place.acted(book) == {"hang": ["k"]}


async def test_a_dropped_answer_is_in_doubt_and_the_money_is_held(place: Place, gateway: PaymentGateway, book: str) -> None:
    for _ in range(2):
        assert await gateway.call(authorization(), "drop") is Answer.IN_DOUBT
    assert await place.payments(book) == {"k": ("authorized", 4200)}
    assert await gateway.call(authorization()) is Answer.AUTHORIZED
    assert await place.acted(book) == {"drop": ["k"]}


async def test_an_error_is_in_doubt_and_nothing_is_held(place: Place, gateway: PaymentGateway, book: str) -> None:
    for _ in range(3):
        assert await gateway.call(authorization(), "error") is Answer.IN_DOUBT
    assert await place.payments(book) == {}
    assert await place.acted(book) == {"error": ["k"]}
    assert await gateway.call(authorization()) is Answer.AUTHORIZED


async def test_a_slow_answer_within_the_timeout_is_right(place: Place, gateway: PaymentGateway, book: str) -> None:
    started_at = time.monotonic()
    assert await gateway.call(authorization(), "slow") is Answer.AUTHORIZED
    assert time.monotonic() - started_at >= SLOW_S * 0.9
    assert await place.acted(book) == {"slow": ["k"]}


async def test_a_slow_answer_after_the_timeout_is_in_doubt(place: Place, gateway: PaymentGateway, book: str) -> None:
    short_timeout = place.client(book, timeout_s=SLOW_S / 2)
    assert await short_timeout.call(authorization(), "slow") is Answer.IN_DOUBT
    assert await gateway.call(authorization(), "slow") is Answer.AUTHORIZED
    await short_timeout.close()


@pytest.mark.parametrize("first", [None, *(failure for failure in AUTHORIZE_FAILURES if failure != "hang")])
async def test_a_void_is_final_after_every_kind_of_authorization(
    place: Place, gateway: PaymentGateway, book: str, first: str | None
) -> None:
    await gateway.call(authorization(), first)
    for _ in range(2):
        assert await gateway.call(voiding()) is Answer.VOIDED
        assert await gateway.call(authorization()) is Answer.VOIDED
    assert {state for state, _ in (await place.payments(book)).values()} == {"voided"}


async def test_a_void_of_an_unknown_key_refuses_a_late_authorization(place: Place, gateway: PaymentGateway, book: str) -> None:
    assert await gateway.call(voiding()) is Answer.VOIDED
    assert await gateway.call(authorization()) is Answer.VOIDED
    assert await place.payments(book) == {"k": ("voided", None)}


async def test_a_pending_payment_that_is_voided_does_not_settle_later(place: Place, gateway: PaymentGateway, book: str) -> None:
    assert await gateway.call(authorization(), "pending") is Answer.PENDING
    assert await gateway.call(voiding()) is Answer.VOIDED
    # A second payment, pending since later, shows when the first would have settled.
    assert await gateway.call(authorization("later"), "pending") is Answer.PENDING
    await eventually(Answer.AUTHORIZED, lambda: gateway.call(authorization("later")))
    assert await place.payments(book) == {"k": ("voided", 4200), "later": ("authorized", 4200)}


@pytest.mark.parametrize("failure", AUTHORIZE_FAILURES)
async def test_a_failure_of_authorizations_does_not_act_on_a_void(
    place: Place, gateway: PaymentGateway, book: str, failure: str
) -> None:
    await gateway.call(authorization())
    assert await gateway.call(voiding(), failure) is Answer.VOIDED
    assert await place.acted(book) == {}


async def test_a_failing_void_is_in_doubt_and_the_money_stays_held(place: Place, gateway: PaymentGateway, book: str) -> None:
    assert await gateway.call(authorization(), "void_error") is Answer.AUTHORIZED
    for _ in range(2):
        assert await gateway.call(voiding(), "void_error") is Answer.IN_DOUBT
    assert await place.payments(book) == {"k": ("authorized", 4200)}
    assert await place.acted(book) == {"void_error": ["k"]}
    assert await gateway.call(voiding()) is Answer.VOIDED


async def test_a_key_reused_for_another_amount_is_in_doubt(place: Place, gateway: PaymentGateway, book: str) -> None:
    assert await gateway.call(authorization()) is Answer.AUTHORIZED
    assert await gateway.call(authorization(amount_cents=1)) is Answer.IN_DOUBT
    assert await place.payments(book) == {"k": ("authorized", 4200)}


async def test_an_unknown_failure_is_in_doubt_and_changes_nothing(place: Place, gateway: PaymentGateway, book: str) -> None:
    assert await gateway.call(authorization(), "hnag") is Answer.IN_DOUBT
    assert await place.payments(book) == {}


async def test_two_hundred_hung_calls_do_not_block_another(place: Place, book: str) -> None:
    client = place.client(book, timeout_s=30.0)
    hung = [asyncio.create_task(client.call(authorization(f"hung-{number}"), "hang")) for number in range(200)]
    deadline = time.monotonic() + 20.0
    while len((await place.acted(book)).get("hang", [])) < 200:
        assert time.monotonic() < deadline, "waited 20 s for 200 calls to hang"
        await asyncio.sleep(0.02)
    assert await asyncio.wait_for(client.call(authorization("another")), 5.0) is Answer.AUTHORIZED
    assert not any(task.done() for task in hung)
    for task in hung:
        task.cancel()
    assert {type(result) for result in await asyncio.gather(*hung, return_exceptions=True)} == {asyncio.CancelledError}
    await client.close()


async def test_emptying_one_book_leaves_the_other(place: Place, gateway: PaymentGateway, book: str) -> None:
    other = place.client(f"{book}-other")
    await gateway.call(authorization(), "declined")
    assert await other.call(authorization(), "slow") is Answer.AUTHORIZED  # the same key: another payment
    await place.empty(book)
    assert (await place.payments(book), await place.acted(book)) == ({}, {})
    assert await place.payments(f"{book}-other") == {"k": ("authorized", 4200)}
    assert await place.acted(f"{book}-other") == {"slow": ["k"]}
    assert await gateway.call(authorization()) is Answer.AUTHORIZED
    await other.close()
