"""The page over HTTP: its files, the lanes that it shows, what it follows, and what it can ask for.

Room: page/. The contract is docs/page.md.
  GET   /, /page/...                                    the page itself
  GET   /watch/lanes, /watch/orders[/MODE/ID], /watch/events
  POST  /watch/orders[/MODE/ID/withdraw], /watch/workers/MODE/NAME/kill, .../revive
"""

import asyncio
import json
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import asdict
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, Header, Query, Request, Response
from fastapi.responses import StreamingResponse
from fastapi.staticfiles import StaticFiles

from api.problems import Refused, answer_with_problems
from api.shapes import EVENT_STREAM, OrderId
from lab.door import NotTaken
from lab.failing import NoSuchFailure
from lab.modes import roles
from observer.history import History
from observer.original import Original
from page.failures import FAILURES
from page.lane import Lane
from page.shapes import SHOWN_MAX, Asked, drawing_of
from page.stream import Watching

STATIC = Path(__file__).parent / "static"


class PageApp:
    """Makes the ASGI application. `seed` is for orders that are drawn and name none; `shelf` has the articles to offer."""

    def __init__(
        self, lanes: Sequence[Lane], watching: Watching, *, seed: int, new_id: Callable[[], str], shelf: Collection[str]
    ) -> None:
        self._lanes = {str(lane.mode): lane for lane in lanes}
        self._watching = watching
        self._seed = seed
        self._new_id = new_id
        self._shelf = list(shelf)
        self._static = StaticFiles(directory=STATIC)

    def application(self) -> FastAPI:
        """Without guard and shield, which go around it."""
        app = FastAPI(title="The page", openapi_url=None)
        app.get("/")(self.page)
        app.get("/page/{path:path}")(self.file)
        app.get("/watch/lanes")(self.lanes)
        app.get("/watch/orders")(self.orders)
        app.get("/watch/orders/{mode}/{order_id}")(self.order)
        app.get("/watch/events", response_class=StreamingResponse)(self.events)
        app.post("/watch/orders")(self.place)
        app.post("/watch/orders/{mode}/{order_id}/withdraw")(self.withdraw)
        app.post("/watch/workers/{mode}/{worker}/kill")(self.kill)
        app.post("/watch/workers/{mode}/{worker}/revive")(self.revive)
        answer_with_problems(app)
        return app

    # --- what it is shown -------------------------------------------------------------------------------------------------

    async def page(self, request: Request) -> Response:
        return await self.file("index.html", request)

    async def file(self, path: str, request: Request) -> Response:
        if "\0" in path:
            raise Refused(HTTPStatus.NOT_FOUND, "not_found", "there is no such file")
        response = await self._static.get_response(path, request.scope)
        response.headers["Cache-Control"] = "no-cache"
        return response

    async def lanes(self) -> Response:
        drawings = [drawing_of(lane) for lane in self._lanes.values()]
        failures = [asdict(failure) for failure in FAILURES]
        return _said({"lanes": drawings, "failures": failures, "shelf": self._shelf, "seed": self._seed})

    async def orders(self, mode: str, limit: Annotated[int, Query(ge=1, le=SHOWN_MAX)] = 50) -> Response:
        return _said({"orders": [self._told(history) for history in await self._lane(mode).newest(limit)]})

    async def order(self, mode: str, order_id: OrderId) -> Response:
        found = await self._lane(mode).order(order_id)
        if found is None:
            raise _no_such_order()
        history, originals = found
        return _said({**self._told(history), "messages": list(_messages(history, originals))})

    async def events(self, last_event_id: Annotated[str | None, Header()] = None) -> Response:
        stream = self._watching.stream(last_event_id)
        return StreamingResponse(stream, headers={"Cache-Control": "no-store"}, media_type=EVENT_STREAM)

    def _told(self, history: History) -> dict[str, Any]:
        return {**history.as_dict(), "stuck": self._watching.is_stuck(history)}

    # --- what it asks for -------------------------------------------------------------------------------------------------

    async def place(self, asked: Asked) -> Response:
        """The same orders in every lane, by the same ids."""
        lanes = [self._asked_for(mode) for mode in dict.fromkeys(asked.modes or self._lanes)]
        if asked.count == 1 and not asked.lines:
            raise _senseless("wrong_schema", "lines: an order has at least one line")
        try:
            wanted = asked.drawn(self._seed, self._new_id)
        except NoSuchFailure as error:
            raise _senseless("no_such_failure", str(error)[:300]) from None
        room = min(lane.room for lane in lanes)
        if room < len(wanted):
            raise Refused(HTTPStatus.INSUFFICIENT_STORAGE, "full", f"this run has room for {room} more orders. Start it anew.")
        try:
            await asyncio.gather(*(lane.place(wanted) for lane in lanes))
        except NotTaken as error:
            raise _not_taken(error) from None
        placed = [{"mode": lane.mode, "order_id": one.order_id} for one in wanted for lane in lanes]
        return _said({"orders": placed}, HTTPStatus.ACCEPTED)

    async def withdraw(self, mode: str, order_id: OrderId) -> Response:
        try:
            if not await self._lane(mode).withdraw(order_id):
                raise _no_such_order()
        except NotTaken as error:
            raise _not_taken(error) from None
        return _said({"mode": mode, "order_id": order_id}, HTTPStatus.ACCEPTED)

    async def kill(self, mode: str, worker: str) -> Response:
        await self._killable(mode, worker).kill(worker)
        await self._watching.look_at_status()
        return Response(status_code=HTTPStatus.NO_CONTENT)

    async def revive(self, mode: str, worker: str) -> Response:
        await self._killable(mode, worker).revive(worker)
        await self._watching.look_at_status()
        return Response(status_code=HTTPStatus.NO_CONTENT)

    def _lane(self, mode: str) -> Lane:
        if mode not in self._lanes:
            raise Refused(HTTPStatus.NOT_FOUND, "no_such_lane", f"there is no such lane. There are: {', '.join(self._lanes)}.")
        return self._lanes[mode]

    def _asked_for(self, mode: str) -> Lane:
        if mode not in self._lanes:
            raise _senseless("wrong_schema", f"modes: there is no such lane. There are: {', '.join(self._lanes)}.")
        return self._lanes[mode]

    def _killable(self, mode: str, worker: str) -> Lane:
        lane = self._lane(mode)
        if not lane.can_kill:
            raise Refused(HTTPStatus.NOT_FOUND, "cannot_kill", "the workers of this lane cannot be killed from here")
        if worker not in roles(lane.mode):
            raise Refused(HTTPStatus.NOT_FOUND, "no_such_worker", f"no such worker. There are: {', '.join(roles(lane.mode))}.")
        return lane


def _messages(history: History, originals: Sequence[Original]) -> Iterable[dict[str, Any]]:
    return (
        {"number": entry.number, "type": entry.type, **asdict(original)}
        for entry, original in zip(history.entries, originals, strict=True)
    )


def _said(value: object, status: HTTPStatus = HTTPStatus.OK) -> Response:
    """As JSON in ASCII, which no text of a stranger can break out of."""
    return Response(json.dumps(value), status, {"Cache-Control": "no-store"}, media_type="application/json")


def _senseless(reason: str, detail: str) -> Refused:
    return Refused(HTTPStatus.UNPROCESSABLE_ENTITY, reason, detail)


def _no_such_order() -> Refused:
    return Refused(HTTPStatus.NOT_FOUND, "no_such_order", "nothing was heard of such an order")


def _not_taken(error: NotTaken) -> Refused:
    return Refused(HTTPStatus.SERVICE_UNAVAILABLE, "not_taken", str(error)[:300])
