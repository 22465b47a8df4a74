"""What others show, handed on by the door: of its own mode what the observer's process serves, of another what that mode's door
serves. The door itself hears no commands, and its rights stay as they are.

A GET as it is, an answer as it comes.
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

from api.problems import Refused
from api.schemas import EVENT_STREAM, OrderId
from bootstrap.modes import Mode
from dashboard.lanes.remote_api import body_of
from dashboard.queries import EVENTS, no_such_lane

#: Seconds until the observer has to answer; a stream may then be silent for as long as it likes.
PATIENCE_S = 5.0
#: The path of the events of the mode beside.
EVENTS_BESIDE = "/watch/beside/events"
#: Answer headers that are handed on.
HANDED_ON = ("Content-Type", "Cache-Control")


@dataclass(frozen=True, slots=True)
class Peer:
    """Who shows a lane: where it is, by which path this door tells its events, and what is said when it is away."""

    url: URL
    events: str
    away: str


class Relayed:
    """`dashboard.queries.Looks` in other processes: the door's own mode at the observer's `url`, the mode `beside` it at that one's
    door. `stop` ends all streams, for a shutdown in time."""

    def __init__(self, mode: Mode, url: str, beside: Mapping[Mode, str] | None = None) -> None:
        away = "the observer does not answer; orders are taken all the same"
        self._peers = {str(mode): Peer(URL(url), EVENTS, away)}
        for other, door in (beside or {}).items():
            self._peers[other] = Peer(URL(door), EVENTS_BESIDE, f"the door of {other} does not answer")
        self._stopped = asyncio.Event()
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=PATIENCE_S),
            connector=aiohttp.TCPConnector(limit=0),  # the guard bounds them; a peer that hangs must not take the others' places
        )

    async def close(self) -> None:
        await self._session.close()

    def stop(self) -> None:
        self._stopped.set()

    def add_to(self, app: FastAPI) -> None:
        app.get("/watch/orders")(self.once)
        app.get("/watch/orders/{mode}/{order_id}")(self.order)
        for peer in self._peers.values():
            app.get(peer.events, response_class=StreamingResponse)(partial(self.follow, peer))

    def events_of(self, mode: Mode) -> str:
        return self._peers[mode].events

    async def look_again(self) -> None:
        """Nothing is done to a lane from here that its observer would not hear."""

    async def once(self, request: Request, mode: str) -> Response:
        if mode not in self._peers:
            raise no_such_lane(self._peers)
        peer = self._peers[mode]
        async with _in_time(peer):
            return await _whole(await self._asked(peer, request.url.path, request))

    async def order(self, request: Request, mode: str, order_id: OrderId) -> Response:  # noqa: ARG002 - its form
        return await self.once(request, mode)

    async def follow(self, peer: Peer, request: Request) -> Response:
        async with _in_time(peer):
            answer = await self._asked(peer, EVENTS, request)
            if answer.status != HTTPStatus.OK:
                return await _whole(answer)
        return StreamingResponse(self._stream(answer), headers=_headers(answer), media_type=EVENT_STREAM)

    async def _asked(self, peer: Peer, path: str, request: Request) -> aiohttp.ClientResponse:
        target = peer.url.with_path(path).with_query(list(request.query_params.multi_items()))
        last = request.headers.get("Last-Event-ID")
        headers = {"Last-Event-ID": last} if last else {}
        return await self._session.get(target, headers=headers, max_redirects=1)  # the first is one too many

    async def _stream(self, answer: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
        """Until the observer ends it, the client leaves, or this process is told to stop."""
        stopped = asyncio.create_task(self._stopped.wait())
        chunk = asyncio.create_task(answer.content.readany())
        try:
            while True:
                await asyncio.wait([chunk, stopped], return_when=asyncio.FIRST_COMPLETED)
                if not chunk.done() or not chunk.result():
                    return
                yield chunk.result()
                chunk = asyncio.create_task(answer.content.readany())
        except aiohttp.ClientError:
            return  # whoever comes again goes on where this ended
        finally:
            answer.close()
            for task in (chunk, stopped):
                task.cancel()
            await asyncio.gather(chunk, stopped, return_exceptions=True)


@asynccontextmanager
async def _in_time(peer: Peer) -> AsyncIterator[None]:
    """Whoever is away, or hangs in the middle of an answer, is a refusal in time."""
    try:
        async with asyncio.timeout(PATIENCE_S):
            yield
    except (aiohttp.ClientError, TimeoutError):
        raise Refused(HTTPStatus.SERVICE_UNAVAILABLE, "observer_away", peer.away) from None


async def _whole(answer: aiohttp.ClientResponse) -> Response:
    async with answer:
        return Response(await body_of(answer), answer.status, _headers(answer))


def _headers(answer: aiohttp.ClientResponse) -> dict[str, str]:
    return {name: answer.headers[name] for name in HANDED_ON if name in answer.headers}
