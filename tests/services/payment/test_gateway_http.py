"""The HTTP client of the payment gateway against a gateway that misbehaves: everything unclear is IN_DOUBT."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import aiohttp
import pytest
from structlog.testing import capture_logs

from services.payment.gateway import GatewayCall
from services.payment.gateway_http import HttpGateway
from services.payment.messages import Answer, Verb

AUTHORIZE = GatewayCall(order_id="k", verb=Verb.AUTHORIZE, amount_cents=4200, currency="EUR")
VOID = GatewayCall(order_id="k", verb=Verb.VOID, amount_cents=4200, currency="EUR")


@pytest.fixture
def quiet_logs() -> None:
    """Override the shared fixture: a test here checks a log line of level info."""


Behaviour = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def misbehaving_gateway(behave: Behaviour) -> AsyncIterator[str]:
    """A server that runs `behave` on each connection and closes it. Yields its URL."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await behave(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def answering(answer: bytes) -> Behaviour:
    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()

    return behave


def response(status: str, body: bytes, *headers: str) -> bytes:
    head = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


async def answer_to(call: GatewayCall, behave: Behaviour, timeout_s: float = 10.0) -> Answer:
    async with misbehaving_gateway(behave) as url:
        client = HttpGateway(url, "mode", timeout_s=timeout_s)
        try:
            return await client.call(call)
        finally:
            await client.close()


OK = "200 OK"


@pytest.mark.parametrize(
    ("call", "word", "answer"),
    [
        (AUTHORIZE, "authorized", Answer.AUTHORIZED),
        (AUTHORIZE, "declined", Answer.DECLINED),
        (AUTHORIZE, "pending", Answer.PENDING),
        (AUTHORIZE, "voided", Answer.VOIDED),
        (AUTHORIZE, "in_doubt", Answer.IN_DOUBT),
        (AUTHORIZE, "AUTHORIZED", Answer.IN_DOUBT),
        (VOID, "voided", Answer.VOIDED),
        (VOID, "authorized", Answer.IN_DOUBT),
        (VOID, "declined", Answer.IN_DOUBT),
        (VOID, "pending", Answer.IN_DOUBT),
    ],
)
async def test_only_a_state_that_answers_the_call_is_an_answer(call: GatewayCall, word: str, answer: Answer) -> None:
    body = b'{"state": "' + word.encode() + b'", "more": 1}'
    assert await answer_to(call, answering(response(OK, body))) is answer


AUTHORIZED = b'{"state": "authorized"}'


@pytest.mark.parametrize(
    "sent",
    [
        b"",  # closed without a response
        b"not HTTP at all\r\n\r\n",
        response(OK, AUTHORIZED)[:-5],  # cut off in the middle
        response(OK, b""),
        response(OK, b"authorized"),
        response(OK, b'"authorized"'),
        response(OK, b'["authorized"]'),
        response(OK, b'{"state": ["authorized"]}'),
        response(OK, b'{"status": "authorized"}'),
        response(OK, b"\xff\xfe\x00"),
        response(OK, b"[" * 4000),
        response(OK, AUTHORIZED + b" " * 100_000),
        response(OK, b"\x1f\x8b\x08garbage", "Content-Encoding: gzip"),
        response("201 Created", AUTHORIZED),
        response("302 Found", AUTHORIZED, "Location: http://127.0.0.1:9/elsewhere"),
        response("307 Temporary Redirect", AUTHORIZED, "Location: /again"),
        response("404 Not Found", AUTHORIZED),
        response("422 Unprocessable Entity", AUTHORIZED),
        response("429 Too Many Requests", AUTHORIZED),
        response("500 Internal Server Error", AUTHORIZED),
        response("503 Service Unavailable", AUTHORIZED),
    ],
)
async def test_every_other_response_is_in_doubt(sent: bytes) -> None:
    assert await answer_to(AUTHORIZE, answering(sent)) is Answer.IN_DOUBT


@pytest.mark.parametrize(("status", "level"), [("422 Unprocessable Entity", "error"), ("503 Service Unavailable", "info")])
async def test_a_4xx_is_logged_as_an_error_and_a_5xx_is_not(status: str, level: str) -> None:
    with capture_logs() as logs:
        assert await answer_to(AUTHORIZE, answering(response(status, b'{"reason": "bad_body"}'))) is Answer.IN_DOUBT
    assert [(entry["event"], entry["log_level"]) for entry in logs] == [("gateway_refused", level)]


async def test_a_redirect_is_not_followed() -> None:
    async def redirect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        elsewhere = response("307 Temporary Redirect", b"", "Location: /elsewhere", "Connection: close")
        writer.write(response(OK, AUTHORIZED) if b"/elsewhere" in head else elsewhere)

    assert await answer_to(AUTHORIZE, redirect) is Answer.IN_DOUBT


async def test_a_refused_connection_is_in_doubt() -> None:
    async with misbehaving_gateway(answering(b"")) as url:
        pass
    client = HttpGateway(url, "mode")
    assert await client.call(AUTHORIZE) is Answer.IN_DOUBT
    await client.close()


async def test_the_timeout_bounds_a_response_that_trickles_in() -> None:
    async def trickle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        while not writer.is_closing():
            writer.write(b" ")
            await asyncio.sleep(0.05)

    assert await asyncio.wait_for(answer_to(AUTHORIZE, trickle, timeout_s=0.3), 5.0) is Answer.IN_DOUBT


async def test_a_call_is_not_retried_by_the_client() -> None:
    connections = 0

    async def drop(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.readuntil(b"\r\n\r\n")

    assert await answer_to(AUTHORIZE, drop) is Answer.IN_DOUBT
    assert connections == 1


async def test_calls_above_the_limit_wait_and_may_end_in_doubt() -> None:
    connections = 0

    async def hang(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.read(-1)

    async with misbehaving_gateway(hang) as url:
        client = HttpGateway(url, "mode", limit=2, timeout_s=0.5)
        try:
            assert set(await asyncio.gather(*(client.call(AUTHORIZE) for _ in range(6)))) == {Answer.IN_DOUBT}
        finally:
            await client.close()
        # On a loaded machine a waiting call may get the connection of one that has just timed out.
        assert 2 <= connections < 6


async def hang(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    await reader.read(-1)


async def test_cancelling_a_call_raises_cancelled_error() -> None:
    async with misbehaving_gateway(hang) as url:
        client = HttpGateway(url, "mode", timeout_s=30.0)
        call = asyncio.create_task(client.call(AUTHORIZE))
        await asyncio.sleep(0)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await client.call(AUTHORIZE)
        await client.close()


async def test_a_cancellation_from_inside_a_library_is_in_doubt(monkeypatch: pytest.MonkeyPatch) -> None:
    def post(*_: object, **__: object) -> None:
        raise asyncio.CancelledError

    monkeypatch.setattr(aiohttp.ClientSession, "post", post)
    client = HttpGateway("http://127.0.0.1:9", "mode")
    assert await client.call(AUTHORIZE) is Answer.IN_DOUBT
    await client.close()


async def test_calls_in_progress_when_the_client_closes_are_in_doubt() -> None:
    arrived = asyncio.Event()

    async def arrive_and_hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        arrived.set()
        await hang(reader, writer)

    async with misbehaving_gateway(arrive_and_hang) as url:
        client = HttpGateway(url, "mode", timeout_s=30.0)
        call = asyncio.create_task(client.call(AUTHORIZE))
        await arrived.wait()
        await client.close()
        assert await asyncio.wait_for(call, 5.0) is Answer.IN_DOUBT


async def test_a_call_has_the_path_key_failure_and_body() -> None:
    requests: list[bytes] = []

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        requests.append(head + await reader.readexactly(length))
        writer.write(response(OK, AUTHORIZED, "Connection: close"))

    async with misbehaving_gateway(listen) as url:
        client = HttpGateway(url + "/", "mode")
        await client.call(AUTHORIZE, "slow")
        await client.call(VOID)
        await client.close()
    authorization, void = requests
    assert authorization.startswith(b"POST /mode/authorizations HTTP/1.1\r\n")
    assert b"\r\nIdempotency-Key: k\r\n" in authorization
    assert b"\r\nX-Injected-Failure: slow\r\n" in authorization
    assert authorization.endswith(b'\r\n\r\n{"amount_cents": 4200, "currency": "EUR"}')
    assert void.startswith(b"POST /mode/voids HTTP/1.1\r\n")
    assert b"X-Injected-Failure" not in void
