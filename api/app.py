"""The door over HTTP: the paths, what each takes and what it answers. Everything else is the desk's, the feed's and the guard's.

POST   /orders                Idempotency-Key, the order -> 202 and its Location
  GET    /orders, /orders/{id}  where orders stand, as far as the door has heard
  DELETE /orders/{id}           withdraw: 202, and the pivot decides; 409 once it has ended
  GET    /orders/{id}/events    server-sent events of one order, from its first or after Last-Event-ID
  GET    /events                those of all orders, from now on or after Last-Event-ID
  GET    /health/live, /health/ready
"""

from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Annotated

from fastapi import FastAPI, Query, Response
from fastapi.responses import StreamingResponse
from pydantic.json_schema import SkipJsonSchema

from api.documents import KnownOrder, State
from api.event_stream import Following, Forgotten, NeverHeard
from api.handlers import Answer
from api.orders import Busy, Desk, InFlight, NotKnownYet
from api.problems import Refused, answer_with_problems
from api.schemas import (
    EVENT_STREAM,
    ORDERS_MAX,
    Accepted,
    Health,
    IdempotencyKey,
    Injected,
    LastEventId,
    Order,
    OrderId,
    Orders,
    Shown,
    accepted,
    problems,
    stream,
)
from orchestrator.remaining_steps import remains
from store.protocol import StoreError

ABOUT = "Takes orders, tells where they stand, takes them back. It hears the mode's events and reads no service's database."
NOT_KEPT = {"Cache-Control": "no-store"}


class DoorApp:
    """Makes the ASGI application of one mode's door. `pivot_first` as in
    `orchestrator.remaining_steps.remains`."""

    def __init__(self, desk: Desk, following: Following, *, pivot_first: bool) -> None:
        self._desk = desk
        self._following = following
        self._pivot_first = pivot_first

    def application(self) -> FastAPI:
        """Without the guard, which goes around it."""
        app = FastAPI(title="The door", description=ABOUT, version="1", docs_url=None, redoc_url=None)
        app.post("/orders", status_code=202, operation_id="place", responses=accepted() | problems(400, 409, 413, 422))(
            self.place
        )
        app.get("/orders", operation_id="list", responses=problems(422))(self.list)
        app.get("/orders/{order_id}", operation_id="show", responses=problems(404, 422))(self.show)
        app.delete("/orders/{order_id}", status_code=202, operation_id="withdraw", responses=problems(404, 409, 422))(
            self.withdraw
        )
        followed = stream() | problems(400, 404, 410, 422)
        app.get("/orders/{order_id}/events", operation_id="events_of", response_class=StreamingResponse, responses=followed)(
            self.events_of
        )
        app.get("/events", operation_id="all_events", response_class=StreamingResponse, responses=followed)(self.all_events)
        app.get("/health/live", operation_id="live")(self.live)
        app.get("/health/ready", operation_id="ready", responses=problems())(self.ready)
        answer_with_problems(app)
        return app

    async def place(
        self, order: Order, response: Response, idempotency_key: IdempotencyKey, injected: Injected = None
    ) -> Accepted:
        """Hand in an order."""
        try:
            answered = await self._desk.take(idempotency_key, order, injected.split(",") if injected else ())
        except InFlight as error:
            raise Refused(HTTPStatus.CONFLICT, "claim_in_flight", error.why) from None
        except (Busy, NotKnownYet) as error:
            raise _later(error) from None
        if answered.answer is Answer.KEY_REUSED:
            raise Refused(HTTPStatus.UNPROCESSABLE_ENTITY, "key_reused", "this key belongs to another order")
        response.headers["Location"] = f"/orders/{answered.order_id}"
        return Accepted(order_id=answered.order_id)

    async def withdraw(self, order_id: OrderId) -> Accepted:
        """Take an order back, which takes effect before the pivot only: one that comes too late shows as refused in the order."""
        try:
            answered = await self._desk.take_back(order_id)
        except (Busy, NotKnownYet) as error:
            raise _later(error) from None
        if answered.answer is Answer.NO_SUCH_ORDER:
            raise _no_such_order()
        if answered.answer is Answer.ALREADY_ENDED:
            raise Refused(HTTPStatus.CONFLICT, "already_ended", "the order has ended: nothing can be withdrawn any more")
        return Accepted(order_id=order_id)

    async def show(self, order_id: OrderId) -> Shown:
        """Where an order stands."""
        order = await self._desk.order(order_id)
        if order is None:
            raise _no_such_order()
        return self._shown(order)

    async def list(
        self, state: State | SkipJsonSchema[None] = None, limit: Annotated[int, Query(ge=1, le=ORDERS_MAX)] = 50
    ) -> Orders:
        """The newest orders, all or those in one state."""
        return Orders(orders=[self._shown(order) for order in await self._desk.orders(state, limit)])

    async def events_of(self, order_id: OrderId, last_event_id: LastEventId = None) -> Response:
        """What happens for an order, from its first event or after the one named."""
        with _event_ids():
            events = await self._following.events_of(order_id, last_event_id)
        if events is None:
            raise _no_such_order()
        return StreamingResponse(events, headers=NOT_KEPT, media_type=EVENT_STREAM)

    async def all_events(self, last_event_id: LastEventId = None) -> Response:
        """What happens for all orders, from now on or after the event named."""
        with _event_ids():
            events = await self._following.all_events(last_event_id)
        return StreamingResponse(events, headers=NOT_KEPT, media_type=EVENT_STREAM)

    async def live(self) -> Health:
        """This process answers. (It ends by itself when its worker dies.)"""
        return Health(status="live")

    async def ready(self) -> Health:
        """Orders are taken: the worker has started and the door's database answers."""
        try:
            return Health(status="ready", broker=await self._desk.check())
        except StoreError as error:
            raise Refused(HTTPStatus.SERVICE_UNAVAILABLE, "not_ready", str(error)[:300]) from error

    def _shown(self, order: KnownOrder) -> Shown:
        names = Shown.model_fields.keys() - {"remains"}
        seen = {event.type for event in order.events}
        remaining = remains(seen, withdrawn=order.withdrawn is not None, pivot_first=self._pivot_first)
        return Shown(**{name: getattr(order, name) for name in names}, remains=[] if order.state.ended else remaining)


def _later(error: Busy | NotKnownYet) -> Refused:
    if isinstance(error, Busy):
        return Refused(HTTPStatus.SERVICE_UNAVAILABLE, "busy", error.why)
    return Refused(HTTPStatus.SERVICE_UNAVAILABLE, "not_known_yet", f"{error.why}; ask again, with the same key")


def _no_such_order() -> Refused:
    return Refused(HTTPStatus.NOT_FOUND, "no_such_order", "the door has never heard of such an order")


@contextmanager
def _event_ids() -> Iterator[None]:
    """What an event number that cannot be followed means to its sender."""
    try:
        yield
    except NeverHeard:
        raise Refused(HTTPStatus.NOT_FOUND, "unknown_event_id", "no event has this number yet") from None
    except Forgotten:
        raise Refused(
            HTTPStatus.GONE, "event_id_too_old", "events after this one are no longer kept: begin anew, without Last-Event-ID"
        ) from None
