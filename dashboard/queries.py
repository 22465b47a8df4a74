"""Read-only HTTP routes: the orders of the lanes, single orders, and the event stream.

Part of the dashboard (dashboard/app.py); also what the observer's process serves (dashboard/observer_mount.py).
  GET   /watch/orders, /watch/orders/MODE/ID, /watch/events
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from http import HTTPStatus
from typing import Annotated, Any, Protocol

from fastapi import FastAPI, Header, Query, Response
from fastapi.responses import StreamingResponse

from api.problems import RequestRefused
from api.schemas import EVENT_STREAM, OrderId
from bootstrap.modes import Mode
from dashboard.event_stream import HistoryStream
from dashboard.lanes.lane import LaneView
from dashboard.schemas import SHOWN_MAX
from observer.history import History
from observer.raw_message import RawMessage

#: Path of the event stream.
EVENTS = "/watch/events"


class Queries(Protocol):
    """Source of the lanes' data: this process (`LocalQueries`) or others (`dashboard.proxy.ProxiedQueries`)."""

    def add_routes(self, app: FastAPI) -> None: ...

    def events_of(self, mode: Mode) -> str:
        """Path of a lane's event stream. Lanes with the same path share one stream."""

    async def refresh(self) -> None:
        """Send the lanes' statuses now, because a lane was just changed."""


class LocalQueries:
    """Queries for lanes of this process."""

    def __init__(self, lanes: Sequence[LaneView], history_stream: HistoryStream) -> None:
        self._lanes = {str(lane.mode): lane for lane in lanes}
        self._history_stream = history_stream

    def add_routes(self, app: FastAPI) -> None:
        app.get("/watch/orders")(self.orders)
        app.get("/watch/orders/{mode}/{order_id}")(self.order)
        app.get(EVENTS, response_class=StreamingResponse)(self.events)

    def events_of(self, mode: Mode) -> str:  # noqa: ARG002 - one stream for all lanes
        return EVENTS

    async def refresh(self) -> None:
        await self._history_stream.refresh_status()

    async def orders(self, mode: str, limit: Annotated[int, Query(ge=1, le=SHOWN_MAX)] = 50) -> Response:
        return json_response({"orders": [self._history_json(history) for history in await self._lane(mode).newest(limit)]})

    async def order(self, mode: str, order_id: OrderId) -> Response:
        found = await self._lane(mode).order(order_id)
        if found is None:
            raise no_such_order()
        history, raw_messages = found
        return json_response({**self._history_json(history), "messages": list(_messages(history, raw_messages))})

    async def events(self, last_event_id: Annotated[str | None, Header()] = None) -> Response:
        stream = self._history_stream.stream(last_event_id)
        return StreamingResponse(stream, headers={"Cache-Control": "no-store"}, media_type=EVENT_STREAM)

    def _lane(self, mode: str) -> LaneView:
        if mode not in self._lanes:
            raise no_such_lane(self._lanes)
        return self._lanes[mode]

    def _history_json(self, history: History) -> dict[str, Any]:
        return {**history.as_dict(), "stuck": self._history_stream.is_stuck(history)}


def _messages(history: History, raw_messages: Sequence[RawMessage]) -> Iterable[dict[str, Any]]:
    return (
        {"number": entry.number, "type": entry.type, **asdict(raw_message)}
        for entry, raw_message in zip(history.entries, raw_messages, strict=True)
    )


def json_response(value: object, status: HTTPStatus = HTTPStatus.OK) -> Response:
    """A JSON response in ASCII: text from outside cannot break out of it."""
    return Response(json.dumps(value), status, {"Cache-Control": "no-store"}, media_type="application/json")


def no_such_lane(lanes: Iterable[str]) -> RequestRefused:
    return RequestRefused(HTTPStatus.NOT_FOUND, "no_such_lane", f"there is no such lane. Choose from: {', '.join(lanes)}.")


def no_such_order() -> RequestRefused:
    return RequestRefused(HTTPStatus.NOT_FOUND, "no_such_order", "no message of this order was observed")
