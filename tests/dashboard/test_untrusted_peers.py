"""Peers that are not the expected API or observer: a proxy with a login page, a foreign server, an endless response.

Real sockets. A response that an API or an observer would not send is not trusted.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from itertools import repeat

import pytest

from api.broker_client import OrderNotConfirmed
from api.sample_orders import sample_order
from bootstrap.modes import Mode
from broker.environment import new_uuid7
from dashboard.app import DashboardApp
from dashboard.lanes.lane import OrderToPlace
from dashboard.lanes.remote_api import RESPONSE_MAX_BYTES, RemoteApiLane
from dashboard.proxy import REMOTE_EVENTS, ProxiedQueries
from services.vocabulary import Line
from tests.support.api.asgi_client import Caller
from tests.support.dashboard_stack import ORDERS, run_bounded

THERE = Mode.ORCHESTRATOR
AN_ID = "0190a0a0-0000-7000-8000-000000000001"
ENDLESS = b"HTTP/1.1 %s\r\nContent-Type: application/json\r\n\r\n"


class Peer:
    """A server with one fixed response. `sent`: bytes of endless bodies that were sent."""

    def __init__(self, answer: bytes, *, endless: bool = False) -> None:
        self._answer = answer
        self._chunks = repeat(b"x" * 2**16) if endless else ()
        self.requests: list[bytes] = []
        self.sent = 0

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[str]:
        async with await asyncio.start_server(self._serve, "127.0.0.1", 0) as server:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.requests.append(await reader.readuntil(b"\r\n\r\n"))
        with suppress(ConnectionError):
            writer.write(self._answer)
            for chunk in self._chunks:
                writer.write(chunk)
                await writer.drain()
                self.sent += len(chunk)
        writer.close()


def complete(status: bytes, body: bytes = b"", *headers: bytes) -> bytes:
    lines = [b"HTTP/1.1 " + status, b"Connection: close", b"Content-Length: %d" % len(body), *headers, b"", body]
    return b"\r\n".join(lines)


def an_order() -> OrderToPlace:
    return OrderToPlace(new_uuid7(), sample_order([Line(sku="book", quantity=1)]))


@pytest.mark.parametrize(
    "answer",
    [
        complete(b"200 OK", b"<p>Log in</p>", b"Content-Type: text/html"),
        complete(b"204 No Content"),
        complete(b"299 Odd"),
        complete(b"500 Internal Server Error", b"{}"),
        complete(b"500 Internal Server Error", b"null"),
        complete(b"500 Internal Server Error", b'{"detail": "\\ud800"}'),
        complete(b"500 Internal Server Error", b"[" * 100_000),
        complete(b"502 Bad Gateway", b"<p>Bad gateway</p>", b"Content-Type: text/html"),
        b"220 mail.example ESMTP\r\n",
    ],
    ids=["a login page", "204", "299", "no problem document", "null", "half a character", "too deep", "a proxy", "a mail server"],
)
def test_only_a_response_of_an_api_counts_as_accepted(answer: bytes) -> None:
    async def program() -> None:
        async with Peer(answer).listening() as url, RemoteApiLane(THERE, url) as lane:
            placed = await lane.place([an_order()])
            assert placed.ids == ()
            assert str(placed.refusal).startswith(f"the HTTP API of {THERE} does not respond")
            with pytest.raises(OrderNotConfirmed):
                await lane.withdraw(new_uuid7())

    run_bounded(program())


@pytest.mark.parametrize("status", [b"302 Found", b"307 Temporary Redirect"])
def test_order_does_not_follow_redirects(status: bytes) -> None:
    async def program() -> None:
        elsewhere = Peer(complete(b"202 Accepted", b"{}"))
        async with elsewhere.listening() as there:
            redirecting = Peer(complete(status, b"", b"Location: " + there.encode()))
            async with redirecting.listening() as url, RemoteApiLane(THERE, url) as lane:
                placed = await lane.place([an_order()])
                assert (placed.ids, len(redirecting.requests), elsewhere.requests) == ((), 1, [])

    run_bounded(program())


def test_endless_refusal_is_read_up_to_a_limit() -> None:
    async def program() -> None:
        peer = Peer(ENDLESS % b"500 Internal Server Error", endless=True)
        async with peer.listening() as url, RemoteApiLane(THERE, url) as lane:
            assert (await lane.place([an_order()])).ids == ()
            assert peer.sent < 2 * RESPONSE_MAX_BYTES

    run_bounded(program())


@asynccontextmanager
async def forwarding_to(url: str) -> AsyncIterator[Caller]:
    """A page without lanes whose queries, of its own and of the other mode, are forwarded to `url`."""
    proxied = ProxiedQueries(Mode.CHOREOGRAPHY, url, {THERE: url})
    app = DashboardApp([], proxied, seed=1, new_id=str, articles=()).application()
    try:
        yield Caller(app)
    finally:
        await proxied.close()


@pytest.mark.parametrize("path", [f"{ORDERS}?mode={THERE}", f"{ORDERS}/{THERE}/{AN_ID}", REMOTE_EVENTS, "/watch/events"])
def test_queries_do_not_follow_redirects(path: str) -> None:
    async def program() -> None:
        elsewhere = Peer(complete(b"200 OK", b"a secret of the inside"))
        async with elsewhere.listening() as there:
            redirecting = Peer(complete(b"302 Found", b"", b"Location: " + there.encode()))
            async with redirecting.listening() as url, forwarding_to(url) as caller:
                reply = await caller.call("GET", path)
                assert (reply.status, reply.reason, elsewhere.requests) == (503, "observer_away", [])

    run_bounded(program())


@pytest.mark.parametrize("status", [b"200 OK", b"500 Internal Server Error"])
def test_endless_query_response_is_read_up_to_a_limit(status: bytes) -> None:
    async def program() -> None:
        peer = Peer(ENDLESS % status, endless=True)
        async with peer.listening() as url, forwarding_to(url) as caller:
            reply = await caller.call("GET", f"{ORDERS}?mode={THERE}")
            assert (reply.status, reply.reason) == (503, "observer_away")
            assert peer.sent < 2 * RESPONSE_MAX_BYTES

    run_bounded(program())


def test_malformed_order_id_is_not_forwarded() -> None:
    async def program() -> None:
        peer = Peer(complete(b"200 OK", b"{}"))
        async with peer.listening() as url, forwarding_to(url) as caller:
            for name in ("..", "%2e%2e", "..%2f..%2fhealth", "me"):
                reply = await caller.call("GET", f"{ORDERS}/{THERE}/{name}")
                assert (reply.status, reply.reason, peer.requests) == (404, "no_such_order", [])

    run_bounded(program())
