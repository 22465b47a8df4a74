"""The payment gateway as a real process: refusals, responses, the reads of an audit, crashes and shutdown."""

import asyncio
import signal
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
import pytest

from payment_gateway.wire import MAX_BODY_BYTES
from services.payment.gateway import GatewayCall
from services.payment.gateway_http import HttpGateway
from services.payment.messages import Answer, Verb
from tests.support.gateway_process import GatewayProcess, running_gateway

GOOD = b'{"amount_cents": 4200, "currency": "EUR"}'


class Caller:
    """Sends raw calls to one book of the gateway."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self.book = f"test-{uuid4().hex[:8]}"
        self.url = url
        self.session = session

    async def post(
        self, path: str, body: bytes = b"", key: str | None = "k", failure: str | None = None
    ) -> tuple[int, dict[str, Any]]:
        headers = {"Idempotency-Key": key} if key is not None else {}
        headers |= {"X-Injected-Failure": failure} if failure else {}
        async with self.session.post(self.url + path, data=body, headers=headers) as response:
            if response.status != 200:
                assert response.content_type == "application/problem+json"
            return response.status, await response.json(content_type=None)

    async def authorize(self, key: str = "k", failure: str | None = None) -> tuple[int, dict[str, Any]]:
        return await self.post(f"/{self.book}/authorizations", GOOD, key, failure)

    async def get(self, path: str) -> tuple[int, dict[str, Any]]:
        async with self.session.get(self.url + path) as response:
            return response.status, await response.json(content_type=None)


@pytest.fixture
async def caller(gateway_url: str) -> AsyncIterator[Caller]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as session:
        yield Caller(gateway_url, session)


# --- refusals ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        (b"", 400, "not_json"),
        (b"{", 400, "not_json"),
        (b"\xff\xfe{\x00}\x00", 400, "not_json"),
        (b"[" * 3000, 400, "not_json"),
        (b"[]", 422, "bad_body"),
        (b"{}", 422, "bad_body"),
        (b'{"amount_cents": "4200", "currency": "EUR"}', 422, "bad_body"),
        (b'{"amount_cents": 42.5, "currency": "EUR"}', 422, "bad_body"),
        (b'{"amount_cents": true, "currency": "EUR"}', 422, "bad_body"),
        (b'{"amount_cents": -1, "currency": "EUR"}', 422, "bad_body"),
        (b'{"amount_cents": 9223372036854775808, "currency": "EUR"}', 422, "bad_body"),
        (b'{"amount_cents": 4200, "currency": "eur"}', 422, "bad_body"),
        (b'{"amount_cents": 4200, "currency": "EUR\\n"}', 422, "bad_body"),
        (b'{"amount_cents": 4200, "currency": "EUR", "tip": 1}', 422, "bad_body"),
        (GOOD + b" " * MAX_BODY_BYTES, 413, "too_large"),
    ],
)
async def test_an_invalid_body_is_refused_and_nothing_is_recorded(caller: Caller, body: bytes, status: int, reason: str) -> None:
    got, problem = await caller.post(f"/{caller.book}/authorizations", body)
    assert (got, problem["status"], problem["reason"]) == (status, status, reason)
    assert problem["detail"]
    assert (await caller.get(f"/{caller.book}/payments"))[1] == {"payments": [], "next": None}


@pytest.mark.parametrize("verb", ["authorizations", "voids"])
@pytest.mark.parametrize(
    ("key", "reason"), [(None, "no_idempotency_key"), ("", "bad_idempotency_key"), ("k" * 129, "bad_idempotency_key")]
)
async def test_a_call_without_a_valid_key_is_refused(caller: Caller, verb: str, key: str | None, reason: str) -> None:
    status, problem = await caller.post(f"/{caller.book}/{verb}", GOOD, key)
    assert (status, problem["reason"]) == (400, reason)


@pytest.mark.parametrize("book", ["Upper", "-dash", "a" * 65, "a.b", "%c3%a9", "a/b", ""])
async def test_a_book_with_an_invalid_name_is_not_found(caller: Caller, book: str) -> None:
    assert (await caller.post(f"/{book}/authorizations", GOOD))[0] == 404
    assert (await caller.get(f"/{book}/payments"))[0] == 404


async def test_a_key_used_for_another_amount_is_refused(caller: Caller) -> None:
    await caller.authorize()
    status, problem = await caller.post(f"/{caller.book}/authorizations", b'{"amount_cents": 1, "currency": "EUR"}')
    assert (status, problem["reason"]) == (422, "key_reused")


async def test_an_unknown_failure_is_refused(caller: Caller) -> None:
    status, problem = await caller.authorize(failure="hnag")
    assert (status, problem["reason"]) == (400, "unknown_failure")


@pytest.mark.parametrize(("method", "path"), [("GET", "/a/voids"), ("PUT", "/a/authorizations"), ("POST", "/health")])
async def test_a_wrong_method_is_answered_with_the_allowed_ones(caller: Caller, method: str, path: str) -> None:
    async with caller.session.request(method, caller.url + path) as response:
        assert response.status == 405
        assert response.headers["Allow"]
        assert (await response.json(content_type=None))["reason"] == "method_not_allowed"


async def test_a_connection_can_be_reused_after_a_refusal(caller: Caller) -> None:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1)) as session:
        one_connection = Caller(caller.url, session)
        assert (await one_connection.post(f"/{caller.book}/authorizations", b" " * 200_000))[0] == 413
        assert (await one_connection.authorize())[0] == 200


# --- responses -----------------------------------------------------------------------------------------------------------


async def test_a_call_is_answered_with_the_state_only(caller: Caller) -> None:
    assert await caller.authorize() == (200, {"state": "authorized"})
    assert await caller.authorize("k2", "declined") == (200, {"state": "declined"})
    assert await caller.authorize("k3", "pending") == (200, {"state": "pending"})
    assert await caller.post(f"/{caller.book}/voids", key="k4") == (200, {"state": "voided"})
    assert await caller.authorize("k4") == (200, {"state": "voided"})


async def test_an_injected_error_is_a_500(caller: Caller) -> None:
    assert (await caller.authorize(failure="error"))[0] == 500
    assert (await caller.post(f"/{caller.book}/voids", failure="void_error"))[0] == 500


def raw_call(url: str, failure: str) -> socket.socket:
    """Send one authorization over its own connection; the response is not read yet."""
    host, port = url.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)), timeout=20)
    head = f"POST /raw/authorizations HTTP/1.1\r\nHost: x\r\nIdempotency-Key: {uuid4()}\r\nX-Injected-Failure: {failure}\r\n"
    connection.sendall(head.encode() + f"Content-Length: {len(GOOD)}\r\n\r\n".encode() + GOOD)
    return connection


def everything_from(connection: socket.socket) -> bytes:
    """All bytes up to the close or reset of the connection by the other side."""
    received = b""
    try:
        while chunk := connection.recv(65536):
            received += chunk
    except ConnectionResetError:
        pass
    return received


async def test_a_dropped_call_gets_no_byte(gateway_url: str) -> None:
    with raw_call(gateway_url, "drop") as connection:
        assert everything_from(connection) == b""
    with raw_call(gateway_url, "error") as connection:  # the same call without a drop is answered
        assert connection.recv(65536).startswith(b"HTTP/1.1 500 ")


async def test_a_hung_call_gets_no_byte_and_its_connection_stays_open(caller: Caller) -> None:
    with raw_call(caller.url, "hang") as connection:
        connection.settimeout(0.5)
        with pytest.raises(TimeoutError):
            connection.recv(1)
    assert (await caller.authorize())[0] == 200


async def test_without_faults_an_injected_failure_does_not_act(tmp_path: Path) -> None:
    with running_gateway(tmp_path / "books.db", faults=False) as gateway:
        async with aiohttp.ClientSession() as session:
            caller = Caller(gateway.url, session)
            assert await caller.authorize(failure="declined") == (200, {"state": "authorized"})
            assert await caller.authorize(failure="hang") == (200, {"state": "authorized"})
            assert await caller.post(f"/{caller.book}/voids", failure="void_error") == (200, {"state": "voided"})


# --- reads of an audit ---------------------------------------------------------------------------------------------------


async def test_payments_are_read_in_pages_or_one_by_one(caller: Caller) -> None:
    keys = [f"k{number:02}" for number in range(23)]
    await asyncio.gather(*(caller.authorize(key) for key in keys))
    await caller.post(f"/{caller.book}/voids", key="k99")
    path = f"/{caller.book}/payments?limit=10"
    status, page = await caller.get(path)
    listed, pages = page["payments"], 1
    while page["next"] is not None:
        status, page = await caller.get(f"{path}&after={page['next']}")
        assert status == 200
        listed, pages = listed + page["payments"], pages + 1
    assert [payment["key"] for payment in listed] == [*keys, "k99"]
    assert pages == 3
    assert listed[0] == {"key": "k00", "state": "authorized", "amount_cents": 4200, "currency": "EUR"}
    assert listed[-1] == {"key": "k99", "state": "voided", "amount_cents": None, "currency": None}
    assert await caller.get(f"/{caller.book}/payments/k00") == (200, listed[0])
    assert (await caller.get(f"/{caller.book}/payments/unknown"))[0] == 404


@pytest.mark.parametrize("limit", ["0", "10001", "-1", "x", "", "9" * 30])
async def test_an_invalid_page_size_is_refused(caller: Caller, limit: str) -> None:
    status, problem = await caller.get(f"/{caller.book}/payments?limit={limit}")
    assert (status, problem["reason"]) == (422, "bad_limit")


async def test_failures_that_acted_are_counted_and_listed_on_request(caller: Caller) -> None:
    for key, failure in (("k1", "declined"), ("k2", "declined"), ("k2", "declined"), ("k3", "error")):
        await caller.authorize(key, failure)
    assert await caller.get(f"/{caller.book}/failures") == (200, {"acted": {"declined": 2, "error": 1}})
    status, detailed = await caller.get(f"/{caller.book}/failures?detail=1")
    assert (status, detailed["keys"]) == (200, {"declined": ["k1", "k2"], "error": ["k3"]})


async def test_health_reports_whether_failures_act(caller: Caller) -> None:
    assert await caller.get("/health") == (200, {"status": "ok", "faults": True})


# --- crash, shutdown-------------------------------------------------------------------------------------------------------


async def test_answered_payments_survive_a_kill(tmp_path: Path) -> None:
    with running_gateway(tmp_path / "books.db") as gateway:
        client = HttpGateway(gateway.url, "mode", timeout_s=20.0)
        answered: set[str] = set()

        async def customer(name: int) -> None:
            number = 0
            while True:
                call = GatewayCall(order_id=f"k{name}-{number}", verb=Verb.AUTHORIZE, amount_cents=1, currency="EUR")
                if await client.call(call) is not Answer.AUTHORIZED:
                    return
                answered.add(call.order_id)
                number += 1

        customers = [asyncio.create_task(customer(name)) for name in range(30)]
        while len(answered) < 300:
            assert not any(task.done() for task in customers), "the gateway stopped answering before it was killed"
            await asyncio.sleep(0.001)
        gateway.kill()
        await asyncio.gather(*customers)
        gateway.start()
        assert answered <= await keys_held(gateway, "mode")
        assert await client.call(GatewayCall("k0-0", Verb.VOID, 1, "EUR")) is Answer.VOIDED, "the client reconnects by itself"
        await client.close()


async def keys_held(gateway: GatewayProcess, book: str) -> set[str]:
    async with aiohttp.ClientSession() as session, session.get(f"{gateway.url}/{book}/payments?limit=10000") as response:
        return {payment["key"] for payment in (await response.json())["payments"] if payment["state"] == "authorized"}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_it_within_two_seconds_while_calls_hang(tmp_path: Path, number: signal.Signals) -> None:
    with running_gateway(tmp_path / "books.db") as gateway:
        hung = [raw_call(gateway.url, "hang") for _ in range(50)]
        async with aiohttp.ClientSession() as session:
            caller = Caller(gateway.url, session)
            deadline = time.monotonic() + 20.0
            while (await caller.get("/raw/failures"))[1]["acted"].get("hang", 0) < 50:
                assert time.monotonic() < deadline, "waited 20 s for 50 calls to hang"
                await asyncio.sleep(0.01)
        signalled_at = time.monotonic()
        assert gateway.stop(number) == 0
        assert time.monotonic() - signalled_at < 2.0
        assert {everything_from(connection) for connection in hung} == {b""}
        for connection in hung:
            connection.close()


async def test_a_port_in_use_is_reported_in_one_line(tmp_path: Path, capfd: pytest.CaptureFixture[str], gateway_url: str) -> None:
    second = GatewayProcess(tmp_path / "books.db")
    second._port = int(gateway_url.rsplit(":", 1)[1])
    with pytest.raises(AssertionError, match="no URL"):
        second.start()
    assert second.wait() == 1
    stderr = capfd.readouterr().err
    assert "in use" in stderr
    assert "Traceback" not in stderr
