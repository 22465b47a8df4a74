"""What is sent to the door and what it answers, as its OpenAPI shows it."""

from typing import Annotated, Any

from fastapi import Header, Path
from pydantic import BaseModel, BeforeValidator, Field
from pydantic.json_schema import SkipJsonSchema

from api.documents import ApiOrderState, RecordedEvent
from api.problems import PROBLEM, Problem
from broker.message import UUID_PATTERN
from services.order.messages import Refusal
from services.vocabulary import Attention, OrderDetails, Reason

#: Orders shown at once.
ORDERS_MAX = 1_000
#: Event numbers are far below this; larger ones would have no exact form in JSON for many.
NUMBER_MAX = 2**53

IdempotencyKey = Annotated[
    str, Header(pattern=r"^[\x21-\x7e]{1,128}$", description="The same key and order again is no second order.")
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
LastEventId = Annotated[EventNumber | SkipJsonSchema[None], Header(alias="Last-Event-ID", description="Go on after this event.")]
OrderId = Annotated[str, Path(pattern=f"^{UUID_PATTERN}$")]


EVENT_STREAM = "text/event-stream"


def problem_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The refusals of a path, for its OpenAPI: these, and those of the guard and the database."""
    refused = {"description": "Refused", "content": {PROBLEM: {"schema": Problem.model_json_schema()}}}
    return dict.fromkeys((*statuses, 503), refused)


def accepted_responses() -> dict[int | str, dict[str, Any]]:
    """What can be done with an order that was taken, for its OpenAPI."""
    parameters = {"order_id": "$response.body#/order_id"}
    return {202: {"links": {name: {"operationId": name, "parameters": parameters} for name in ("show", "withdraw", "events_of")}}}


def stream_response() -> dict[int | str, dict[str, Any]]:
    """A stream of events, for its OpenAPI: `id` is the event's number, `event` its type, `data` has all of it."""
    text = {"type": "string"}
    data = {**text, "contentMediaType": "application/json", "contentSchema": RecordedEvent.model_json_schema()}
    event = {"type": "object", "properties": {"id": text, "event": text, "data": data}}
    return {200: {"description": "Server-sent events", "content": {EVENT_STREAM: {"itemSchema": event}}}}


def _integers_restored(order: Any) -> Any:  # noqa: ANN401 - whatever was sent
    """The order with 2 where 2.0 was sent: to JSON Schema both are the same integer, to the messages they are not."""
    if not isinstance(order, dict):
        return order
    lines = order.get("lines")
    whole = {name: _integer_restored(value) for name, value in order.items()}
    if isinstance(lines, list):
        whole["lines"] = [
            {name: _integer_restored(value) for name, value in line.items()} if isinstance(line, dict) else line for line in lines
        ]
    return whole


def _integer_restored(value: Any) -> Any:  # noqa: ANN401 - whatever was sent
    return int(value) if isinstance(value, float) and value.is_integer() else value


#: The body of POST /orders.
OrderBody = Annotated[OrderDetails, BeforeValidator(_integers_restored)]


class Accepted(BaseModel):
    """The door has it safely. What became of it is to be asked for, or followed."""

    order_id: str


class OrderView(BaseModel):
    """An order, as far as the door has heard. Times are seconds since the epoch.

    `withdrawn` is the reason of a withdrawal that the order service has recorded: before the pivot it takes effect. `remains` has
    the commands still to be carried out, if nothing else goes wrong."""

    order_id: str
    state: ApiOrderState
    reason: Reason | None
    withdrawal_asked: bool
    withdrawn: Reason | None
    withdrawal_refused: Refusal | None
    attention: Attention | None
    accepted_at: float
    ended_at: float | None
    remains: list[str]


class OrderList(BaseModel):
    """The newest orders, the newest first."""

    orders: list[OrderView]


class Health(BaseModel):
    """`broker` is `away` while accepted orders wait for it in the door's outbox."""

    status: str
    broker: str | None = None
