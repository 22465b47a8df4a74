"""What others show, handed on by the door: of its own mode what the observer's process serves, of another what that mode's door
serves. The door itself hears no commands, and its rights stay as they are.

Room: page/. A GET as it is, an answer as it comes.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus

import aiohttp
from fastapi import FastAPI, Request, Response
from fastapi.responses import StreamingResponse
from yarl import URL

from api.problems import Refused
from api.shapes import EVENT_STREAM, OrderId
from lab.modes import Mode
from page.looking import EVENTS, no_such_lane
from page.peers import body_of

#: Seconds until the observer has to answer; a stream may then be silent for as long as it likes.
PATIENCE_S = 5.0
#: The path of the events of the mode beside.
EVENTS_BESIDE = "/watch/beside/events"
#: Answer headers that are handed on.
HANDED_ON = ("Content-Type", "Cache-Control")


class Relayed:
    """`page.looking.Looks` in other processes: the door's own mode at the observer's `url`, the mode `beside` it at that one's
    door. `stop` ends all streams, for a shutdown in time."""

    def __init__(self, mode: Mode, url: str, beside: Mapping[Mode, str] | None = None) -> None:
        self._urls = {mode: URL(url)} | {other: URL(door) for other, door in (beside or {}).items()}
        self._events = {mode: EVENTS} | dict.fromkeys(beside or {}, EVENTS_BESIDE)
        self._stopped = asyncio.Event()
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None, sock_connect=PATIENCE_S))

    async def close(self) -> None:
        await self._session.close()

    def stop(self) -> None:
        self._stopped.set()

    def add_to(self, app: FastAPI) -> None:
        app.get("/watch/orders")(self.once)
        app.get("/watch/orders/{mode}/{order_id}")(self.order)
        for path in set(self._events.values()):
            app.get(path, response_class=StreamingResponse)(self.events)

    def events_of(self, mode: Mode) -> str:
        return self._events[mode]

    async def look_again(self) -> None:
        """Nothing is done to a lane from here that its observer would not hear."""

    async def once(self, request: Request, mode: str) -> Response:
        async with _in_time(mode):
            answer = await self._asked(mode, request.url.path, request)
            async with answer:
                return Response(await body_of(answer), answer.status, _headers(answer))

    async def order(self, request: Request, mode: str, order_id: OrderId) -> Response:  # noqa: ARG002 - its form
        return await self.once(request, mode)

    async def events(self, request: Request) -> Response:
        mode = next(mode for mode, path in self._events.items() if path == request.url.path)
        async with _in_time(mode):
            answer = await self._asked(mode, EVENTS, request)
            if answer.status != HTTPStatus.OK:
                async with answer:
                    return Response(await body_of(answer), answer.status, _headers(answer))
        return StreamingResponse(self._stream(answer), headers=_headers(answer), media_type=EVENT_STREAM)

    async def _asked(self, mode: str, path: str, request: Request) -> aiohttp.ClientResponse:
        if mode not in self._urls:
            raise no_such_lane(self._urls)
        target = self._urls[Mode(mode)].with_path(path).with_query(list(request.query_params.multi_items()))
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
async def _in_time(mode: str) -> AsyncIterator[None]:
    """Whoever is away, or hangs in the middle of an answer, is a refusal in time."""
    try:
        async with asyncio.timeout(PATIENCE_S):
            yield
    except (aiohttp.ClientError, TimeoutError):
        raise Refused(
            HTTPStatus.SERVICE_UNAVAILABLE, "observer_away", f"{mode}'s observer does not answer; orders are taken all the same"
        ) from None


def _headers(answer: aiohttp.ClientResponse) -> dict[str, str]:
    return {name: answer.headers[name] for name in HANDED_ON if name in answer.headers}
