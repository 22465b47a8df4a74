"""The order: what it can be, and what a withdrawal does to it.

PENDING is the semantic lock: an order that is not yet COMPLETED or REJECTED, and says so to everybody.
"""

from enum import StrEnum
from typing import ClassVar

from services.order.messages import Refusal
from services.vocabulary import Attention, OrderDetails, Reason
from store.document import Document


class OrderState(StrEnum):
    """Where an order stands."""

    TOMBSTONE = "TOMBSTONE"  # withdrawn before it was placed: PlaceOrder will find this and reject
    PENDING = "PENDING"  # placed; the saga is at work
    COMPLETED = "COMPLETED"  # the end: everything held
    REJECTED = "REJECTED"  # the end: nothing held


class Order(Document):
    """One order. Times are seconds since the epoch.

    `withdrawn` is the first withdrawal that was accepted while PENDING; it *is* the reason of a rejection, whatever reason a
    later message carries. `due_at` is the deadline, and after a withdrawal the time to publish it again."""

    collection: ClassVar[str] = "orders"

    order_id: str
    state: OrderState
    details: OrderDetails | None = None
    withdrawn: Reason | None = None
    reason: Reason | None = None
    withdrawal_refused: Refusal | None = None
    placed_at: float | None = None
    ended_at: float | None = None
    due_at: float | None = None
    #: Why somebody has to look at this order (choreography; the orchestrated mode keeps it with the saga).
    attention: Attention | None = None

    @property
    def ended(self) -> bool:
        return self.state in (OrderState.COMPLETED, OrderState.REJECTED)

    @property
    def is_open(self) -> bool:
        """Placed, and not ended yet."""
        return self.state is OrderState.PENDING

    def rejected(self, reason: Reason, now: float) -> "Order":
        """The end for `reason`, or for the recorded withdrawal if there is one."""
        reason = self.withdrawn or reason
        return self.copy_with(state=OrderState.REJECTED, reason=reason, ended_at=now, due_at=None, attention=None)

    def completed(self, now: float) -> "Order":
        """The end, in spite of a withdrawal that came too late."""
        too_late = Refusal.TOO_LATE if self.withdrawn is Reason.WITHDRAWN else self.withdrawal_refused
        ended = self.copy_with(state=OrderState.COMPLETED, withdrawal_refused=too_late)
        return ended.copy_with(ended_at=now, due_at=None, attention=None)
