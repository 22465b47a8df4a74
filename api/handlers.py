"""What the door does with what it is asked and with what it hears: pure functions, run by the loop that every worker runs.

So a claim, the order as the door knows it and the outbox row of its PlaceOrder are one commit, many requests share
it, and what the broker has not confirmed is published again.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum

from api.documents import PAGE, Claim, Feed, Heard, KnownOrder, Page, State, page_of
from api.messages import EVENTS, NAME, TakeBack, TakeOrder
from broker.handler import Context, Documents, Handler, Outcome
from broker.message import Event, Message
from broker.role import Role, Service, as_it_is
from services.order.messages import PlaceOrder, WithdrawOrder
from services.vocabulary import Reason
from store.document import Key

FEED = Feed()


class Answer(Enum):
    """What came of a request."""

    TAKEN = "taken"  # now, or earlier by the same request
    KEY_REUSED = "key_reused"  # the key belongs to another request
    ID_REUSED = "id_reused"  # the id that was asked for belongs to another order
    NO_SUCH_ORDER = "no_such_order"
    ALREADY_ENDED = "already_ended"  # nothing can be withdrawn any more


@dataclass(frozen=True, slots=True)
class Answered(Outcome):
    """An outcome that somebody waits for. `order_id` is the order that the answer is about."""

    answer: Answer = Answer.TAKEN
    order_id: str = ""


def the_claim(asked: TakeOrder, _: Documents) -> Iterable[Key]:
    return (Claim.key_of(asked.key), KnownOrder.key_of(asked.order_id))


def take_order(asked: TakeOrder, found: Documents, context: Context) -> Outcome:
    """A new key claims its order; a known one gets the answer that it had, if it comes with the same request."""
    claim = found.get(Claim, asked.key)
    if claim is None:
        if found.get(KnownOrder, asked.order_id) is not None:
            return Answered(answer=Answer.ID_REUSED, order_id=asked.order_id)
        claim = Claim(idempotency_key=asked.key, order_id=asked.order_id, fingerprint=asked.fingerprint)
        order = KnownOrder(order_id=asked.order_id, state=State.ACCEPTED, accepted_at=context.now)
        command = PlaceOrder(order_id=asked.order_id, details=asked.details)
        return Answered((claim, order), (command,), order_id=asked.order_id)
    answer = Answer.TAKEN if claim.fingerprint == asked.fingerprint else Answer.KEY_REUSED
    return Answered(answer=answer, order_id=claim.order_id)


def the_order(message: TakeBack, _: Documents) -> Iterable[Key]:
    return (KnownOrder.key_of(message.order_id),)


def take_back(asked: TakeBack, found: Documents, _: Context) -> Outcome:
    """The first request is passed on; the order service and the pivot decide what it is worth."""
    order = found.get(KnownOrder, asked.order_id)
    if order is None:
        return Answered(answer=Answer.NO_SUCH_ORDER, order_id=asked.order_id)
    if order.state.ended:
        return Answered(answer=Answer.ALREADY_ENDED, order_id=asked.order_id)
    if order.withdrawal_asked:
        return Answered(order_id=asked.order_id)
    command = WithdrawOrder(order_id=asked.order_id, reason=Reason.WITHDRAWN)
    return Answered((order.but(withdrawal_asked=True),), (command,), order_id=asked.order_id)


def what_hearing_needs(event: Event, found: Documents) -> Iterable[Key]:
    """The order, the number of the last event, and then the page for the next one and the page after it: for the whole batch."""
    keys = [KnownOrder.key_of(event.order_id), FEED.key]
    if not found.unread([FEED.key]):
        first = page_of((found.get(Feed, FEED.name) or FEED).number + 1)
        keys += [first.key, page_of(first.first + PAGE).key]
    return keys


def hear(event: Event, found: Documents, context: Context) -> Outcome:
    """Write down one event: on the order, which may be one that did not come through this door, and on the page."""
    feed = found.get(Feed, FEED.name) or FEED
    heard = Heard.of(event, feed.number + 1, context.now)
    empty = page_of(heard.number)
    page = found.get(Page, empty.page_id)
    if page is None or page.first != empty.first:
        page = empty
    order = found.get(KnownOrder, event.order_id)
    if order is None:
        order = KnownOrder(order_id=event.order_id, state=State.PENDING, accepted_at=context.now)
    return Outcome((feed.but(number=heard.number), page.but(events=(*page.events, heard)), order.after(event, heard)))


#: An event must not be given up early: nobody would say it again.
HANDLERS: Mapping[type[Message], Handler] = {
    TakeOrder: Handler(the_claim, take_order),
    TakeBack: Handler(the_order, take_back),
    **dict.fromkeys(EVENTS, Handler(what_hearing_needs, hear, compensates=True)),
}


def door_role() -> Role:
    """The door as a worker: requests come from inside its process, events over the wire. Replicas take turns at hearing, because
    every event has its number from one document."""
    return Role(Service(NAME, HANDLERS, single_active=True), dict.fromkeys(EVENTS, as_it_is))
