"""Forwards the dashboard's queries from the HTTP API to other processes: for its own mode to the observer's process, for other
modes to their HTTP APIs.

The API's account may not consume commands, so the API cannot record the histories itself.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus

import aiohttp
from fastapi import FastAPI, Request, Response
from fastapi.responses import StreamingResponse
from yarl import URL

from api.problems import RequestRefused
from api.schemas import EVENT_STREAM, OrderId
from bootstrap.modes import Mode
from dashboard.lanes.remote_api import read_body
from dashboard.queries import EVENTS, no_such_lane

#: Seconds that a peer has to respond. A stream that has started has no timeout.
PEER_TIMEOUT_S = 5.0
#: Path of the other mode's event stream.
REMOTE_EVENTS = "/watch/beside/events"
#: Response headers that are forwarded.
FORWARDED_HEADERS = ("Content-Type", "Cache-Control")


@dataclass(frozen=True, slots=True)
class Peer:
    """The process that serves a lane's data. `events`: the path at this API. `unavailable`: the text if it does not respond."""

    url: URL
    events: str
    unavailable: str


class ProxiedQueries:
    """`dashboard.queries.Queries` of other processes: `mode` at the observer's `url`, the modes of `remote_apis` at their APIs.

    `stop` ends all streams, so that a shutdown does not wait for them."""

    def __init__(self, mode: Mode, url: str, remote_apis: Mapping[Mode, str] | None = None) -> None:
        unavailable = "the observer does not respond; orders are still accepted. Check `saga worker observer`"
        self._peers = {str(mode): Peer(URL(url), EVENTS, unavailable)}
        for other, api_url in (remote_apis or {}).items():
            self._peers[other] = Peer(URL(api_url), REMOTE_EVENTS, f"the HTTP API of {other} does not respond")
        self._stopped = asyncio.Event()
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=PEER_TIMEOUT_S),
            connector=aiohttp.TCPConnector(limit=0),  # RequestLimits bounds them; a peer that hangs must not block the others
        )

    async def close(self) -> None:
        await self._session.close()

    def stop(self) -> None:
        self._stopped.set()

    def add_routes(self, app: FastAPI) -> None:
        app.get("/watch/orders")(self.forward)
        app.get("/watch/orders/{mode}/{order_id}")(self.order)
        for peer in self._peers.values():
            app.get(peer.events, response_class=StreamingResponse)(partial(self.follow, peer))

    def events_of(self, mode: Mode) -> str:
        return self._peers[mode].events

    async def refresh(self) -> None:
        """Do nothing: changes made from here reach the observer as messages."""

    async def forward(self, request: Request, mode: str) -> Response:
        if mode not in self._peers:
            raise no_such_lane(self._peers)
        peer = self._peers[mode]
        async with _peer_timeout(peer):
            return await _full_response(await self._fetch(peer, request.url.path, request))

    async def order(self, request: Request, mode: str, order_id: OrderId) -> Response:  # noqa: ARG002 - validated by its type
        return await self.forward(request, mode)

    async def follow(self, peer: Peer, request: Request) -> Response:
        async with _peer_timeout(peer):
            response = await self._fetch(peer, EVENTS, request)
            if response.status != HTTPStatus.OK:
                return await _full_response(response)
        return StreamingResponse(self._stream(response), headers=_headers(response), media_type=EVENT_STREAM)

    async def _fetch(self, peer: Peer, path: str, request: Request) -> aiohttp.ClientResponse:
        target = peer.url.with_path(path).with_query(list(request.query_params.multi_items()))
        last_event_id = request.headers.get("Last-Event-ID")
        headers = {"Last-Event-ID": last_event_id} if last_event_id else {}
        return await self._session.get(target, headers=headers, max_redirects=1)  # the first redirect is an error

    async def _stream(self, response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
        """Chunks until the peer ends the stream, the client disconnects, or `stop` is called."""
        stopped = asyncio.create_task(self._stopped.wait())
        chunk = asyncio.create_task(response.content.readany())
        try:
            while True:
                await asyncio.wait([chunk, stopped], return_when=asyncio.FIRST_COMPLETED)
                if not chunk.done() or not chunk.result():
                    return
                yield chunk.result()
                chunk = asyncio.create_task(response.content.readany())
        except aiohttp.ClientError:
            return  # the client reconnects with the id of its last event
        finally:
            response.close()
            for task in (chunk, stopped):
                task.cancel()
            await asyncio.gather(chunk, stopped, return_exceptions=True)


@asynccontextmanager
async def _peer_timeout(peer: Peer) -> AsyncIterator[None]:
    """Refuse with 503 when the peer is unreachable or does not complete its response within PEER_TIMEOUT_S."""
    try:
        async with asyncio.timeout(PEER_TIMEOUT_S):
            yield
    except (aiohttp.ClientError, TimeoutError):
        raise RequestRefused(HTTPStatus.SERVICE_UNAVAILABLE, "observer_away", peer.unavailable) from None


async def _full_response(response: aiohttp.ClientResponse) -> Response:
    async with response:
        return Response(await read_body(response), response.status, _headers(response))


def _headers(response: aiohttp.ClientResponse) -> dict[str, str]:
    return {name: response.headers[name] for name in FORWARDED_HEADERS if name in response.headers}
