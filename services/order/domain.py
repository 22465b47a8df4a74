"""The order: its states, and how it ends.

PENDING is the semantic lock: it marks an order that is neither COMPLETED nor REJECTED yet.
"""

from enum import StrEnum
from typing import ClassVar

from services.order.messages import Refusal
from services.vocabulary import Attention, ObservedState, OrderDetails, Reason
from store.document import Document


class OrderState(StrEnum):
    """The state of an order."""

    TOMBSTONE = "TOMBSTONE"  # withdrawn before it was placed: PlaceOrder finds this and rejects
    PENDING = ObservedState.PENDING.value  # placed, not decided yet
    COMPLETED = ObservedState.COMPLETED.value  # final: everything is held
    REJECTED = ObservedState.REJECTED.value  # final: nothing is held


class Order(Document):
    """One order. Times are seconds since the epoch.

    `withdrawn` is the first withdrawal that was accepted while PENDING. It is the reason of a rejection, whatever reason a later
    message carries. `due_at` is the deadline, and after a withdrawal the time at which it is published again."""

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
    #: Why this order needs an operator (choreography; the orchestrated mode stores it with the saga run).
    attention: Attention | None = None

    @property
    def ended(self) -> bool:
        return self.state in (OrderState.COMPLETED, OrderState.REJECTED)

    @property
    def is_open(self) -> bool:
        """Whether the order was placed and has not ended yet."""
        return self.state is OrderState.PENDING

    def rejected(self, reason: Reason, now: float) -> "Order":
        """The order, REJECTED for the recorded withdrawal if there is one, else for `reason`."""
        reason = self.withdrawn or reason
        return self.copy_with(state=OrderState.REJECTED, reason=reason, ended_at=now, due_at=None, attention=None)

    def completed(self, now: float) -> "Order":
        """The order, COMPLETED. A withdrawal by the customer is refused as too late."""
        too_late = Refusal.TOO_LATE if self.withdrawn is Reason.WITHDRAWN else self.withdrawal_refused
        ended = self.copy_with(state=OrderState.COMPLETED, withdrawal_refused=too_late)
        return ended.copy_with(ended_at=now, due_at=None, attention=None)
