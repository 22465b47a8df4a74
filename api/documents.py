"""What the door remembers: which key belongs to which order, where each order stands as far as was heard, and what was heard.

The door reads nobody's database. It knows an order from taking it and from the mode's events, and so it may be a
moment behind the order service, and is never ahead of it.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict

from broker.message import Event
from services.order.messages import OrderCompleted, OrderRejected, OrderWithdrawn, Refusal, WithdrawalRefused
from services.vocabulary import NEEDS_ATTENTION, Attention, Reason, StepFailed
from store.document import Document

#: Events kept of one order, the newest. Even one that is withdrawn and redriven has a few dozen.
ORDER_EVENTS_MAX = 200
#: Events on a page of what was heard, and pages that are kept: 16,384 events. A batch must fit on one page.
PAGE_SIZE, PAGES_MAX = 256, 64


class ApiOrderState(StrEnum):
    """Where an order stands, as far as the door has heard."""

    ACCEPTED = "ACCEPTED"  # the door has it safely; the order service has not said that it has
    PENDING = "PENDING"  # the order service has it; the saga is at work
    NEEDS_ATTENTION = NEEDS_ATTENTION  # something that must not fail has failed for good, and nothing has moved since
    COMPLETED = "COMPLETED"  # the end
    REJECTED = "REJECTED"  # the end, with its reason

    @property
    def ended(self) -> bool:
        return self in (ApiOrderState.COMPLETED, ApiOrderState.REJECTED)


class RecordedEvent(BaseModel):
    """One event as the door heard it. `number` counts all events that it ever heard; `facts` is what the event says besides the
    order's details."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    number: int
    type: str
    order_id: str
    at: float
    facts: Mapping[str, str] = {}

    @classmethod
    def of(cls, event: Event, number: int, now: float) -> Self:
        facts = event.model_dump(mode="json", exclude={"order_id", "details"})
        return cls(number=number, type=event.type_name, order_id=event.order_id, at=now, facts=facts)


class Claim(Document):
    """An idempotency key, the order that it belongs to for ever, and a fingerprint of what was sent with it."""

    collection: ClassVar[str] = "claims"
    id_field: ClassVar[str] = "idempotency_key"

    idempotency_key: str
    order_id: str
    fingerprint: str


class ApiOrder(Document):
    """An order as the door knows it. Times are seconds since the epoch, of the door's clock.

    A withdrawal is asked for at the door, recorded by the order service (`withdrawn`, by a customer or by the deadline: the pivot
    decides what it is worth), and may be refused. `forgotten`: the number of the last event that is no longer among `events`."""

    collection: ClassVar[str] = "orders"

    order_id: str
    state: ApiOrderState
    accepted_at: float
    reason: Reason | None = None
    withdrawal_asked: bool = False
    withdrawn: Reason | None = None
    withdrawal_refused: Refusal | None = None
    attention: Attention | None = None
    #: The service that called for attention.
    caller: str | None = None
    ended_at: float | None = None
    events: tuple[RecordedEvent, ...] = ()
    forgotten: int = 0

    def with_event(self, event: Event, recorded: RecordedEvent) -> Self:
        """The order after one more event. Events may be heard out of order: an end stays the end."""
        events = (*self.events, recorded)
        dropped = events[:-ORDER_EVENTS_MAX]
        forgotten = dropped[-1].number if dropped else self.forgotten
        return self.copy_with(**self._changes_by(event, recorded.at), events=events[-ORDER_EVENTS_MAX:], forgotten=forgotten)

    def _changes_by(self, event: Event, now: float) -> dict[str, Any]:
        if isinstance(event, WithdrawalRefused):
            return {"withdrawal_refused": event.refusal}
        if self.state.ended:
            return {}
        if isinstance(event, OrderCompleted | OrderRejected):
            end = {"state": ApiOrderState.REJECTED, "reason": event.reason} if isinstance(event, OrderRejected) else _COMPLETED
            return {**end, "ended_at": now, "attention": None}
        if isinstance(event, StepFailed):
            attention = Attention(step=event.step, error=event.error)
            return {"state": ApiOrderState.NEEDS_ATTENTION, "attention": attention, "caller": event.service}
        withdrawn = {"withdrawn": self.withdrawn or event.reason} if isinstance(event, OrderWithdrawn) else {}
        # An overdue order says again and again that it is withdrawn, and others answer again: who called says whether it moves.
        if self.attention and (withdrawn or event.service != self.caller):
            return withdrawn
        return {"state": ApiOrderState.PENDING, "attention": None, "caller": None, **withdrawn}


_COMPLETED = {"state": ApiOrderState.COMPLETED}


class EventCounter(Document):
    """How many events were heard so far. One document: its number gives all events one order."""

    collection: ClassVar[str] = "feed"
    id_field: ClassVar[str] = "name"

    name: str = "feed"
    number: int = 0


class EventPage(Document):
    """Consecutive events, beginning with number `first`. A page is used again for later events once all pages are full."""

    collection: ClassVar[str] = "pages"
    id_field: ClassVar[str] = "page_id"

    page_id: str
    first: int
    events: tuple[RecordedEvent, ...] = ()


def page_of(number: int) -> EventPage:
    """The page on which the event of this number stands, still empty."""
    index = (number - 1) // PAGE_SIZE
    return EventPage(page_id=f"{index % PAGES_MAX:03d}", first=index * PAGE_SIZE + 1)


def oldest_kept(number: int) -> int:
    """The number of the oldest event on the pages when `number` were heard."""
    return max(1, page_of(max(number, 1)).first - (PAGES_MAX - 1) * PAGE_SIZE)
