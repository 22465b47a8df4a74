"""Whatever listens where a door or an observer should: a proxy with a login page, a stranger, somebody who never ends.

Real sockets; nothing of a peer is trusted that a door or an observer would not say.
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
    """Answers everything in the same way. `sent`: the bytes of bodies without end that it got rid of."""

    def __init__(self, answer: bytes, *, without_end: bool = False) -> None:
        self._answer = answer
        self._chunks = repeat(b"x" * 2**16) if without_end else ()
        self.asked: list[bytes] = []
        self.sent = 0

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[str]:
        async with await asyncio.start_server(self._serve, "127.0.0.1", 0) as server:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.asked.append(await reader.readuntil(b"\r\n\r\n"))
        with suppress(ConnectionError):
            writer.write(self._answer)
            for chunk in self._chunks:
                writer.write(chunk)
                await writer.drain()
                self.sent += len(chunk)
        writer.close()


def whole(status: bytes, body: bytes = b"", *headers: bytes) -> bytes:
    lines = [b"HTTP/1.1 " + status, b"Connection: close", b"Content-Length: %d" % len(body), *headers, b"", body]
    return b"\r\n".join(lines)


def an_order() -> OrderToPlace:
    return OrderToPlace(new_uuid7(), sample_order([Line(sku="book", quantity=1)]))


@pytest.mark.parametrize(
    "answer",
    [
        whole(b"200 OK", b"<p>Log in</p>", b"Content-Type: text/html"),
        whole(b"204 No Content"),
        whole(b"299 Odd"),
        whole(b"500 Internal Server Error", b"{}"),
        whole(b"500 Internal Server Error", b"null"),
        whole(b"500 Internal Server Error", b'{"detail": "\\ud800"}'),
        whole(b"500 Internal Server Error", b"[" * 100_000),
        whole(b"502 Bad Gateway", b"<p>Bad gateway</p>", b"Content-Type: text/html"),
        b"220 mail.example ESMTP\r\n",
    ],
    ids=["a login page", "204", "299", "no problem", "null", "half a character", "too deep", "a proxy", "a mail server"],
)
def test_an_order_is_taken_beside_only_if_a_door_says_so(answer: bytes) -> None:
    async def program() -> None:
        async with Peer(answer).listening() as url, RemoteApiLane(THERE, url) as lane:
            placed = await lane.place([an_order()])
            assert placed.ids == ()
            assert str(placed.refusal).startswith(f"the door of {THERE} does not answer")
            with pytest.raises(OrderNotConfirmed):
                await lane.withdraw(new_uuid7())

    run_bounded(program())


@pytest.mark.parametrize("status", [b"302 Found", b"307 Temporary Redirect"])
def test_an_order_is_not_carried_to_where_the_door_beside_points(status: bytes) -> None:
    async def program() -> None:
        elsewhere = Peer(whole(b"202 Accepted", b"{}"))
        async with elsewhere.listening() as there:
            pointing = Peer(whole(status, b"", b"Location: " + there.encode()))
            async with pointing.listening() as url, RemoteApiLane(THERE, url) as lane:
                placed = await lane.place([an_order()])
                assert (placed.ids, len(pointing.asked), elsewhere.asked) == ((), 1, [])

    run_bounded(program())


def test_a_refusal_without_end_is_read_up_to_a_length() -> None:
    async def program() -> None:
        peer = Peer(ENDLESS % b"500 Internal Server Error", without_end=True)
        async with peer.listening() as url, RemoteApiLane(THERE, url) as lane:
            assert (await lane.place([an_order()])).ids == ()
            assert peer.sent < 2 * RESPONSE_MAX_BYTES

    run_bounded(program())


@asynccontextmanager
async def looking_at(url: str) -> AsyncIterator[Caller]:
    """A page without lanes whose door and whose door beside both look at `url`."""
    relayed = ProxiedQueries(Mode.CHOREOGRAPHY, url, {THERE: url})
    app = DashboardApp([], relayed, seed=1, new_id=str, articles=()).application()
    try:
        yield Caller(app)
    finally:
        await relayed.close()


@pytest.mark.parametrize("path", [f"{ORDERS}?mode={THERE}", f"{ORDERS}/{THERE}/{AN_ID}", REMOTE_EVENTS, "/watch/events"])
def test_what_is_shown_is_not_fetched_from_where_a_peer_points(path: str) -> None:
    async def program() -> None:
        elsewhere = Peer(whole(b"200 OK", b"a secret of the inside"))
        async with elsewhere.listening() as there:
            pointing = Peer(whole(b"302 Found", b"", b"Location: " + there.encode()))
            async with pointing.listening() as url, looking_at(url) as caller:
                reply = await caller.call("GET", path)
                assert (reply.status, reply.reason, elsewhere.asked) == (503, "observer_away", [])

    run_bounded(program())


@pytest.mark.parametrize("status", [b"200 OK", b"500 Internal Server Error"])
def test_what_is_shown_is_read_up_to_a_length(status: bytes) -> None:
    async def program() -> None:
        peer = Peer(ENDLESS % status, without_end=True)
        async with peer.listening() as url, looking_at(url) as caller:
            reply = await caller.call("GET", f"{ORDERS}?mode={THERE}")
            assert (reply.status, reply.reason) == (503, "observer_away")
            assert peer.sent < 2 * RESPONSE_MAX_BYTES

    run_bounded(program())


def test_nothing_but_an_order_is_asked_for_by_its_path() -> None:
    async def program() -> None:
        peer = Peer(whole(b"200 OK", b"{}"))
        async with peer.listening() as url, looking_at(url) as caller:
            for name in ("..", "%2e%2e", "..%2f..%2fhealth", "me"):
                reply = await caller.call("GET", f"{ORDERS}/{THERE}/{name}")
                assert (reply.status, reply.reason, peer.asked) == (404, "no_such_order", [])

    run_bounded(program())
