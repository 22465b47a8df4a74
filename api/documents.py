"""The API's documents: idempotency keys with their orders, the state of each order, and the events that were received.

The API reads no service's database. It knows an order from accepting it and from the mode's events, so its state may be behind
that of the order service, never ahead.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict

from broker.message import Event
from services.order.messages import OrderCompleted, OrderRejected, OrderWithdrawn, Refusal, WithdrawalRefused
from services.vocabulary import Attention, ObservedState, Reason, StepFailed
from store.document import Document

#: Events kept of one order, the newest. An order that is withdrawn and redriven has a few dozen.
ORDER_EVENTS_MAX = 200
#: Events on a page, and pages that are kept: 16,384 events. A batch must fit on one page.
PAGE_SIZE, PAGES_MAX = 256, 64


class RecordedEvent(BaseModel):
    """One event that the API received.

    `number` counts all events that it ever received. `facts` are the event's fields besides the order's details."""

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
    """An idempotency key, the order that it belongs to, and a fingerprint of the request. It does not expire."""

    collection: ClassVar[str] = "claims"
    id_field: ClassVar[str] = "idempotency_key"

    idempotency_key: str
    order_id: str
    fingerprint: str


class ApiOrder(Document):
    """An order as the API knows it. Times are seconds since the epoch, by the API's clock.

    A withdrawal is requested (`withdrawal_asked`), recorded by the order service (`withdrawn`, also by the deadline; the pivot
    decides whether it takes effect), and may be refused. `forgotten`: the number of the last event that is no longer kept."""

    collection: ClassVar[str] = "orders"

    order_id: str
    state: ObservedState
    accepted_at: float
    reason: Reason | None = None
    withdrawal_asked: bool = False
    withdrawn: Reason | None = None
    withdrawal_refused: Refusal | None = None
    attention: Attention | None = None
    #: The service whose step failed.
    caller: str | None = None
    ended_at: float | None = None
    events: tuple[RecordedEvent, ...] = ()
    forgotten: int = 0

    def with_event(self, event: Event, recorded: RecordedEvent) -> Self:
        """The order after one more event. Events may arrive out of order: an order that has ended keeps its state."""
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
            end = {"state": ObservedState.REJECTED, "reason": event.reason} if isinstance(event, OrderRejected) else _COMPLETED
            return {**end, "ended_at": now, "attention": None}
        if isinstance(event, StepFailed):
            attention = Attention(step=event.step, error=event.error)
            return {"state": ObservedState.NEEDS_ATTENTION, "attention": attention, "caller": event.service}
        withdrawn = {"withdrawn": self.withdrawn or event.reason} if isinstance(event, OrderWithdrawn) else {}
        # An overdue order publishes OrderWithdrawn again and again, and other services repeat their answers: only an event of the
        # service whose step failed shows progress.
        if self.attention and (withdrawn or event.service != self.caller):
            return withdrawn
        return {"state": ObservedState.PENDING, "attention": None, "caller": None, **withdrawn}


_COMPLETED = {"state": ObservedState.COMPLETED}


class EventCounter(Document):
    """The number of events received so far. It is a single document, which puts all events in one sequence."""

    collection: ClassVar[str] = "feed"
    id_field: ClassVar[str] = "name"

    name: str = "feed"
    number: int = 0


class EventPage(Document):
    """Consecutive events, beginning with number `first`. Once all pages are full, the oldest is overwritten."""

    collection: ClassVar[str] = "pages"
    id_field: ClassVar[str] = "page_id"

    page_id: str
    first: int
    events: tuple[RecordedEvent, ...] = ()


def page_of(number: int) -> EventPage:
    """The page for the event with this number, without events."""
    index = (number - 1) // PAGE_SIZE
    return EventPage(page_id=f"{index % PAGES_MAX:03d}", first=index * PAGE_SIZE + 1)


def oldest_kept(number: int) -> int:
    """The number of the oldest event on the pages after `number` events."""
    return max(1, page_of(max(number, 1)).first - (PAGES_MAX - 1) * PAGE_SIZE)
