"""The door over HTTP: the paths, what each takes and what it answers. Everything else is the desk's, the feed's and the guard's.

Room: api/.
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
from typing import Annotated, Any

from fastapi import FastAPI, Header, Path, Query, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from api.desk import Busy, Desk, InFlight, NotKnownYet
from api.documents import KnownOrder, State
from api.feed import Following, Forgotten, NeverHeard
from api.handlers import Answer
from api.problems import PROBLEM, Problem, Refused, answer_with_problems
from api.remains import remains
from broker.message import UUID_PATTERN
from services.order.messages import Refusal
from services.vocabulary import Attention, OrderDetails, Reason
from store.store import StoreError

#: Orders shown at once.
ORDERS_MAX = 1_000
#: Event numbers are far below this; larger ones would have no exact form in JSON for many.
NUMBER_MAX = 2**53

IdempotencyKey = Annotated[
    str, Header(pattern=r"^[\x21-\x7e]{1,128}$", description="The same key and order again is no second order.")
]
Injected = Annotated[
    str | None,
    Header(
        alias="X-Injected-Failures",
        pattern=r"^[a-z_]{1,32}:[a-z_]{1,32}(,[a-z_]{1,32}:[a-z_]{1,32}){0,7}$",
        description="Failures to inject, such as payment:declined; workers with faults disabled ignore them.",
    ),
]
LastEventId = Annotated[int | None, Header(alias="Last-Event-ID", ge=0, le=NUMBER_MAX, description="Go on after this event.")]
OrderId = Annotated[str, Path(pattern=f"^{UUID_PATTERN}$")]


ABOUT = "Takes orders, tells where they stand, takes them back. It hears the mode's events and reads no service's database."
EVENT_STREAM = "text/event-stream"
NOT_KEPT = {"Cache-Control": "no-store"}
STREAM: dict[int | str, dict[str, Any]] = {
    200: {"description": "Server-sent events", "content": {EVENT_STREAM: {"schema": {"type": "string"}}}}
}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The refusals of a path, for its OpenAPI: these, and those of the guard and the database."""
    refused = {"description": "Refused", "content": {PROBLEM: {"schema": Problem.model_json_schema()}}}
    return dict.fromkeys((*statuses, 503), refused)


class Accepted(BaseModel):
    """The door has it safely. What became of it is to be asked for, or followed."""

    order_id: str


class Shown(BaseModel):
    """An order, as far as the door has heard. Times are seconds since the epoch.

    `withdrawn` is the reason of a withdrawal that the order service has recorded: before the pivot it takes effect. `remains` has
    the commands still to be carried out, if nothing else goes wrong."""

    order_id: str
    state: State
    reason: Reason | None
    withdrawal_asked: bool
    withdrawn: Reason | None
    withdrawal_refused: Refusal | None
    attention: Attention | None
    accepted_at: float
    ended_at: float | None
    remains: list[str]


class Orders(BaseModel):
    """The newest orders, the newest first."""

    orders: list[Shown]


class Health(BaseModel):
    """`broker` is `away` while accepted orders wait for it in the door's outbox."""

    status: str
    broker: str | None = None


class DoorApp:
    """Makes the ASGI application of one mode's door. `pivot_first` as in `api.remains`."""

    def __init__(self, desk: Desk, following: Following, *, pivot_first: bool) -> None:
        self._desk = desk
        self._following = following
        self._pivot_first = pivot_first

    def application(self) -> FastAPI:
        """Without the guard, which goes around it."""
        app = FastAPI(title="The door", description=ABOUT, version="1", docs_url=None, redoc_url=None)
        app.post("/orders", status_code=202, responses=problems(400, 409, 413, 422))(self.place)
        app.get("/orders", responses=problems(422))(self.list)
        app.get("/orders/{order_id}", responses=problems(404, 422))(self.show)
        app.delete("/orders/{order_id}", status_code=202, responses=problems(404, 409, 422))(self.withdraw)
        stream = STREAM | problems(400, 404, 410, 422)
        app.get("/orders/{order_id}/events", response_class=StreamingResponse, responses=stream)(self.events_of)
        app.get("/events", response_class=StreamingResponse, responses=stream)(self.all_events)
        app.get("/health/live")(self.live)
        app.get("/health/ready", responses=problems())(self.ready)
        answer_with_problems(app)
        return app

    async def place(
        self, details: OrderDetails, response: Response, idempotency_key: IdempotencyKey, injected: Injected = None
    ) -> Accepted:
        """Hand in an order."""
        try:
            answered = await self._desk.take(idempotency_key, details, injected.split(",") if injected else ())
        except InFlight:
            raise Refused(HTTPStatus.CONFLICT, "claim_in_flight", "another request with this key is being worked on") from None
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

    async def list(self, state: State | None = None, limit: Annotated[int, Query(ge=1, le=ORDERS_MAX)] = 50) -> Orders:
        """The newest orders, all or those in one state."""
        return Orders(orders=[self._shown(order) for order in await self._desk.orders(state, limit)])

    async def events_of(self, order_id: OrderId, last_event_id: LastEventId = None) -> Response:
        """What happens for an order, from its first event or after the one named."""
        with _event_ids():
            stream = await self._following.events_of(order_id, last_event_id)
        if stream is None:
            raise _no_such_order()
        return StreamingResponse(stream, headers=NOT_KEPT, media_type=EVENT_STREAM)

    async def all_events(self, last_event_id: LastEventId = None) -> Response:
        """What happens for all orders, from now on or after the event named."""
        with _event_ids():
            stream = await self._following.all_events(last_event_id)
        return StreamingResponse(stream, headers=NOT_KEPT, media_type=EVENT_STREAM)

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
        return Shown(**{name: getattr(order, name) for name in names}, remains=remains(order, pivot_first=self._pivot_first))


def _later(error: Busy | NotKnownYet) -> Refused:
    if isinstance(error, Busy):
        return Refused(HTTPStatus.SERVICE_UNAVAILABLE, "busy", "too many requests wait for the door's database")
    return Refused(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "not_known_yet",
        "the door's database has not answered in time; ask again, with the same key",
    )


def _no_such_order() -> Refused:
    return Refused(HTTPStatus.NOT_FOUND, "no_such_order", "the door has never heard of such an order")


@contextmanager
def _event_ids() -> Iterator[None]:
    """What an event number that cannot be followed means to its sender."""
    try:
        yield
    except NeverHeard:
        raise Refused(HTTPStatus.BAD_REQUEST, "unknown_event_id", "no event has this number yet") from None
    except Forgotten:
        raise Refused(
            HTTPStatus.GONE, "event_id_too_old", "events after this one are no longer kept: begin anew, without Last-Event-ID"
        ) from None
