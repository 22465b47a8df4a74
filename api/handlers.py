"""The API worker's handlers for requests and events: pure functions, run by the loop that every worker runs.

So an idempotency key, its order and the outbox row of the order's PlaceOrder are one commit, which many requests share, and the
relay publishes until the broker confirms.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum

from api.documents import PAGE_SIZE, ApiOrder, Claim, EventCounter, EventPage, RecordedEvent, page_of
from api.messages import EVENTS, NAME, AcceptOrder, RequestWithdrawal
from broker.handler import Context, Documents, Handler, Outcome
from broker.message import Event, Message
from broker.role import Role, Service, identity
from services.order.messages import PlaceOrder, WithdrawOrder
from services.vocabulary import ObservedState, Reason
from store.document import Key

EVENT_COUNTER = EventCounter()


class RequestResult(Enum):
    """The result of a request."""

    ACCEPTED = "taken"  # now, or before by the same request
    KEY_REUSED = "key_reused"  # the key belongs to another request
    ID_REUSED = "id_reused"  # the requested id belongs to another order
    NO_SUCH_ORDER = "no_such_order"
    ALREADY_ENDED = "already_ended"  # the order has ended, so it cannot be withdrawn


@dataclass(frozen=True, slots=True)
class RequestOutcome(Outcome):
    """The outcome of a request whose client waits for the result. `order_id` is the order that it concerns."""

    result: RequestResult = RequestResult.ACCEPTED
    order_id: str = ""


def claim_keys(request: AcceptOrder, _: Documents) -> Iterable[Key]:
    return (Claim.key_of(request.key), ApiOrder.key_of(request.order_id))


def accept_order(request: AcceptOrder, found: Documents, context: Context) -> Outcome:
    """Claim an order for a new key. A known key gets its order again if the request is the same."""
    claim = found.get(Claim, request.key)
    if claim is None:
        if found.get(ApiOrder, request.order_id) is not None:
            return RequestOutcome(result=RequestResult.ID_REUSED, order_id=request.order_id)
        claim = Claim(idempotency_key=request.key, order_id=request.order_id, fingerprint=request.fingerprint)
        order = ApiOrder(order_id=request.order_id, state=ObservedState.ACCEPTED, accepted_at=context.now)
        command = PlaceOrder(order_id=request.order_id, details=request.details)
        return RequestOutcome((claim, order), (command,), order_id=request.order_id)
    result = RequestResult.ACCEPTED if claim.fingerprint == request.fingerprint else RequestResult.KEY_REUSED
    return RequestOutcome(result=result, order_id=claim.order_id)


def order_keys(message: RequestWithdrawal, _: Documents) -> Iterable[Key]:
    return (ApiOrder.key_of(message.order_id),)


def request_withdrawal(request: RequestWithdrawal, found: Documents, _: Context) -> Outcome:
    """Send WithdrawOrder for the first request. The order service and the pivot decide whether it takes effect."""
    order = found.get(ApiOrder, request.order_id)
    if order is None:
        return RequestOutcome(result=RequestResult.NO_SUCH_ORDER, order_id=request.order_id)
    if order.state.ended:
        return RequestOutcome(result=RequestResult.ALREADY_ENDED, order_id=request.order_id)
    if order.withdrawal_asked:
        return RequestOutcome(order_id=request.order_id)
    command = WithdrawOrder(order_id=request.order_id, reason=Reason.WITHDRAWN)
    return RequestOutcome((order.copy_with(withdrawal_asked=True),), (command,), order_id=request.order_id)


def event_keys(event: Event, found: Documents) -> Iterable[Key]:
    """The order and the event counter; once the counter is loaded, also the page of the next event and the page after it.

    Two pages, because a batch may continue on the second."""
    keys = [ApiOrder.key_of(event.order_id), EVENT_COUNTER.key]
    if not found.not_loaded([EVENT_COUNTER.key]):
        first = page_of((found.get(EventCounter, EVENT_COUNTER.name) or EVENT_COUNTER).number + 1)
        keys += [first.key, page_of(first.first + PAGE_SIZE).key]
    return keys


def record_event(event: Event, found: Documents, context: Context) -> Outcome:
    """Record one event on its order and on its page. The order may be new: one that was not placed through the API."""
    counter = found.get(EventCounter, EVENT_COUNTER.name) or EVENT_COUNTER
    recorded = RecordedEvent.of(event, counter.number + 1, context.now)
    empty = page_of(recorded.number)
    page = found.get(EventPage, empty.page_id)
    if page is None or page.first != empty.first:
        page = empty
    order = found.get(ApiOrder, event.order_id)
    if order is None:
        order = ApiOrder(order_id=event.order_id, state=ObservedState.PENDING, accepted_at=context.now)
    return Outcome(
        (
            counter.copy_with(number=recorded.number),
            page.copy_with(events=(*page.events, recorded)),
            order.with_event(event, recorded),
        )
    )


#: Events have the retry budget of compensations, because a dead-lettered event would be missing here.
HANDLERS: Mapping[type[Message], Handler] = {
    AcceptOrder: Handler(claim_keys, accept_order),
    RequestWithdrawal: Handler(order_keys, request_withdrawal),
    **dict.fromkeys(EVENTS, Handler(event_keys, record_event, must_not_fail=True)),
}


def api_role() -> Role:
    """The API as a worker: requests are local inputs, events come from the broker.

    One replica consumes at a time, because the event counter is one document."""
    return Role(Service(NAME, HANDLERS, single_active=True), dict.fromkeys(EVENTS, identity))
