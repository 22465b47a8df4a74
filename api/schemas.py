"""The schemas of requests and responses, as the OpenAPI document shows them."""

from typing import Annotated, Any

from fastapi import Header, Path
from pydantic import BaseModel, BeforeValidator, Field
from pydantic.json_schema import SkipJsonSchema

from api.documents import RecordedEvent
from api.problems import PROBLEM, Problem
from broker.message import UUID_PATTERN
from services.order.messages import Refusal
from services.vocabulary import Attention, ObservedState, OrderDetails, Reason

#: Orders shown at once.
ORDERS_MAX = 1_000
#: The largest event number: many JSON parsers read integers as doubles, which are exact up to here.
NUMBER_MAX = 2**53

IdempotencyKey = Annotated[
    str, Header(pattern=r"^[\x21-\x7e]{1,128}$", description="Repeating a request with the same key places no second order.")
]
Failures = Annotated[str, Field(pattern=r"^[a-z_]{1,32}:[a-z_]{1,32}(,[a-z_]{1,32}:[a-z_]{1,32}){0,7}$")]
Injected = Annotated[
    Failures | SkipJsonSchema[None],
    Header(
        alias="X-Injected-Failures",
        description="Failures to inject, such as payment:declined; workers with faults disabled ignore them.",
    ),
]
EventNumber = Annotated[int, Field(ge=0, le=NUMBER_MAX)]
LastEventId = Annotated[
    EventNumber | SkipJsonSchema[None], Header(alias="Last-Event-ID", description="Continue after this event.")
]
OrderId = Annotated[str, Path(pattern=f"^{UUID_PATTERN}$")]


EVENT_STREAM = "text/event-stream"


def problem_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The refusals of a path, for the OpenAPI document: `statuses`, and 503 (too many requests, or no database)."""
    refused = {"description": "Refused", "content": {PROBLEM: {"schema": Problem.model_json_schema()}}}
    return dict.fromkeys((*statuses, 503), refused)


def accepted_responses() -> dict[int | str, dict[str, Any]]:
    """The operations on an accepted order, for the OpenAPI document."""
    parameters = {"order_id": "$response.body#/order_id"}
    return {202: {"links": {name: {"operationId": name, "parameters": parameters} for name in ("show", "withdraw", "events_of")}}}


def stream_response() -> dict[int | str, dict[str, Any]]:
    """A stream of events, for the OpenAPI document: `id` is the event's number, `event` its type, `data` the whole event."""
    text = {"type": "string"}
    data = {**text, "contentMediaType": "application/json", "contentSchema": RecordedEvent.model_json_schema()}
    event = {"type": "object", "properties": {"id": text, "event": text, "data": data}}
    return {200: {"description": "Server-sent events", "content": {EVENT_STREAM: {"itemSchema": event}}}}


def _integers_restored(order: Any) -> Any:  # noqa: ANN401 - any JSON value
    """The order with 2 in place of 2.0: to JSON Schema both are the same integer, to strict pydantic models they are not."""
    if not isinstance(order, dict):
        return order
    lines = order.get("lines")
    whole = {name: _integer_restored(value) for name, value in order.items()}
    if isinstance(lines, list):
        whole["lines"] = [
            {name: _integer_restored(value) for name, value in line.items()} if isinstance(line, dict) else line for line in lines
        ]
    return whole


def _integer_restored(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    return int(value) if isinstance(value, float) and value.is_integer() else value


#: The body of POST /orders.
OrderBody = Annotated[OrderDetails, BeforeValidator(_integers_restored)]


class Accepted(BaseModel):
    """The request is stored. Its outcome shows in the order and its events."""

    order_id: str


class OrderView(BaseModel):
    """An order, as far as its events have arrived. Times are seconds since the epoch.

    `withdrawn` is the reason of a withdrawal that the order service has recorded, which takes effect before the pivot. `remains`
    are the commands still to be handled if nothing else goes wrong."""

    order_id: str
    state: ObservedState
    reason: Reason | None
    withdrawal_asked: bool
    withdrawn: Reason | None
    withdrawal_refused: Refusal | None
    attention: Attention | None
    accepted_at: float
    ended_at: float | None
    remains: list[str]


class OrderList(BaseModel):
    """Orders, the newest first."""

    orders: list[OrderView]


class Health(BaseModel):
    """The state of the process. `broker` is `away` while accepted orders wait in the outbox for it."""

    status: str
    broker: str | None = None
