"""The HTTP API as an ASGI application: its paths, what each takes and what it returns.

    POST   /orders                Idempotency-Key and an order -> 202 with its Location
    GET    /orders, /orders/{id}  the state of orders, as far as their events have arrived
    DELETE /orders/{id}           withdraw: 202, and the pivot decides; 409 once the order has ended
    GET    /orders/{id}/events    server-sent events of one order, from its first or after Last-Event-ID
    GET    /events                server-sent events of all orders, from now on or after Last-Event-ID
    GET    /health/live, /health/ready

Storing orders (orders.py), streaming events (event_stream.py) and limiting requests (request_limits.py) are done elsewhere.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Annotated

from fastapi import FastAPI, Query, Response
from fastapi.responses import StreamingResponse
from pydantic.json_schema import SkipJsonSchema

from api.documents import ApiOrder
from api.event_stream import EventExpired, EventStreams, UnknownEvent
from api.handlers import RequestResult
from api.orders import CommitTimeout, KeyInFlight, Orders, TooManyRequests
from api.problems import RequestRefused, add_problem_handlers
from api.schemas import (
    EVENT_STREAM,
    ORDERS_MAX,
    Accepted,
    Health,
    IdempotencyKey,
    Injected,
    LastEventId,
    OrderBody,
    OrderId,
    OrderList,
    OrderView,
    accepted_responses,
    problem_responses,
    stream_response,
)
from orchestrator.remaining_steps import remaining_steps
from services.vocabulary import ObservedState
from store.protocol import StoreError

DESCRIPTION = "Place, follow and withdraw orders. The API consumes the events of one mode and reads no service's database."
NO_STORE = {"Cache-Control": "no-store"}


class ApiApp:
    """The HTTP API of one mode. `pivot_first` as in `orchestrator.remaining_steps.remaining_steps`."""

    def __init__(self, orders: Orders, event_streams: EventStreams, *, pivot_first: bool) -> None:
        self._orders = orders
        self._event_streams = event_streams
        self._pivot_first = pivot_first

    def application(self) -> FastAPI:
        """The ASGI application, without `RequestLimits`, which wraps it."""
        app = FastAPI(title="Orders", description=DESCRIPTION, version="1", docs_url=None, redoc_url=None)
        app.post(
            "/orders",
            status_code=202,
            operation_id="place",
            responses=accepted_responses() | problem_responses(400, 409, 413, 422),
        )(self.place)
        app.get("/orders", operation_id="list", responses=problem_responses(422))(self.list)
        app.get("/orders/{order_id}", operation_id="show", responses=problem_responses(404, 422))(self.show)
        app.delete("/orders/{order_id}", status_code=202, operation_id="withdraw", responses=problem_responses(404, 409, 422))(
            self.withdraw
        )
        stream_responses = stream_response() | problem_responses(400, 404, 410, 422)
        app.get(
            "/orders/{order_id}/events", operation_id="events_of", response_class=StreamingResponse, responses=stream_responses
        )(self.events_of)
        app.get("/events", operation_id="all_events", response_class=StreamingResponse, responses=stream_responses)(
            self.all_events
        )
        app.get("/health/live", operation_id="live")(self.live)
        app.get("/health/ready", operation_id="ready", responses=problem_responses())(self.ready)
        add_problem_handlers(app)
        return app

    async def place(
        self, order: OrderBody, response: Response, idempotency_key: IdempotencyKey, injected: Injected = None
    ) -> Accepted:
        """Place an order. Repeating the request with the same key does not place it twice."""
        try:
            outcome = await self._orders.place(idempotency_key, order, injected.split(",") if injected else ())
        except KeyInFlight as error:
            raise RequestRefused(HTTPStatus.CONFLICT, "claim_in_flight", error.why) from None
        except (TooManyRequests, CommitTimeout) as error:
            raise _retry_later(error) from None
        if outcome.result is RequestResult.KEY_REUSED:
            raise RequestRefused(
                HTTPStatus.UNPROCESSABLE_ENTITY, "key_reused", "this key was used for another order: use a new one"
            )
        response.headers["Location"] = f"/orders/{outcome.order_id}"
        return Accepted(order_id=outcome.order_id)

    async def withdraw(self, order_id: OrderId) -> Accepted:
        """Withdraw an order, which takes effect before the pivot only. The order shows one that is too late as refused."""
        try:
            outcome = await self._orders.withdraw(order_id)
        except (TooManyRequests, CommitTimeout) as error:
            raise _retry_later(error) from None
        if outcome.result is RequestResult.NO_SUCH_ORDER:
            raise _no_such_order()
        if outcome.result is RequestResult.ALREADY_ENDED:
            raise RequestRefused(HTTPStatus.CONFLICT, "already_ended", "the order has ended: it can no longer be withdrawn")
        return Accepted(order_id=order_id)

    async def show(self, order_id: OrderId) -> OrderView:
        """An order's state."""
        order = await self._orders.get(order_id)
        if order is None:
            raise _no_such_order()
        return self._view_of(order)

    async def list(
        self, state: ObservedState | SkipJsonSchema[None] = None, limit: Annotated[int, Query(ge=1, le=ORDERS_MAX)] = 50
    ) -> OrderList:
        """The newest orders, all or those in one state."""
        return OrderList(orders=[self._view_of(order) for order in await self._orders.newest(state, limit)])

    async def events_of(self, order_id: OrderId, last_event_id: LastEventId = None) -> Response:
        """The events of one order, from its first or after the one named."""
        with _refuse_bad_event_ids():
            events = await self._event_streams.events_of(order_id, last_event_id)
        if events is None:
            raise _no_such_order()
        return StreamingResponse(events, headers=NO_STORE, media_type=EVENT_STREAM)

    async def all_events(self, last_event_id: LastEventId = None) -> Response:
        """The events of all orders, from now on or after the one named."""
        with _refuse_bad_event_ids():
            events = await self._event_streams.all_events(last_event_id)
        return StreamingResponse(events, headers=NO_STORE, media_type=EVENT_STREAM)

    async def live(self) -> Health:
        """Whether the process responds. It exits when its worker fails."""
        return Health(status="live")

    async def ready(self) -> Health:
        """Whether orders are accepted: the worker has started and the API's database responds."""
        try:
            return Health(status="ready", broker=await self._orders.check_health())
        except StoreError as error:
            raise RequestRefused(HTTPStatus.SERVICE_UNAVAILABLE, "not_ready", str(error)[:300]) from error

    def _view_of(self, order: ApiOrder) -> OrderView:
        names = OrderView.model_fields.keys() - {"remains"}
        seen = {event.type for event in order.events}
        remaining = remaining_steps(seen, withdrawn=order.withdrawn is not None, pivot_first=self._pivot_first)
        return OrderView(**{name: getattr(order, name) for name in names}, remains=[] if order.state.ended else remaining)


def _retry_later(error: TooManyRequests | CommitTimeout) -> RequestRefused:
    if isinstance(error, TooManyRequests):
        return RequestRefused(HTTPStatus.SERVICE_UNAVAILABLE, "busy", error.why)
    return RequestRefused(
        HTTPStatus.SERVICE_UNAVAILABLE, "not_known_yet", f"{error.why}: repeat the request, an order with the same key"
    )


def _no_such_order() -> RequestRefused:
    return RequestRefused(HTTPStatus.NOT_FOUND, "no_such_order", "no order with this id is known here")


@contextmanager
def _refuse_bad_event_ids() -> Iterator[None]:
    """Turn an event number that cannot be followed into a refusal."""
    try:
        yield
    except UnknownEvent:
        raise RequestRefused(HTTPStatus.NOT_FOUND, "unknown_event_id", "no event has this number yet") from None
    except EventExpired:
        raise RequestRefused(
            HTTPStatus.GONE, "event_id_too_old", "events after this one are no longer kept: start again without Last-Event-ID"
        ) from None
