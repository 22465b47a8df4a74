"""The order service's messages: what it can be asked (commands) and what it states (events).

Anyone may import this file; nobody but the order service may import the rest of the folder.
"""

from enum import StrEnum

from pydantic import field_validator

from broker.message import Command, Event
from services.vocabulary import BackwardCommand, BackwardEvent, ForwardCommand, ForwardEvent, Reason, StepFailed, Text


class PlaceOrder(ForwardCommand, service="order"):
    """From the door: take this order. Answered by OrderPlaced, or by OrderRejected if its withdrawal came first."""


class WithdrawOrder(BackwardCommand, service="order"):
    """From the door: the customer takes the order back. Answered by OrderWithdrawn while pending, else WithdrawalRefused."""

    @field_validator("reason")
    @classmethod
    def _check_reason(cls, reason: Reason) -> Reason:
        if reason not in (Reason.WITHDRAWN, Reason.DEADLINE):
            raise ValueError("a withdrawal's reason is withdrawn or deadline")
        return reason


class CompleteOrder(Command, service="order"):
    """Everything is arranged: complete the order. Retriable: it cannot be refused."""


class RejectOrder(BackwardCommand, service="order"):
    """Nothing is held any more: reject the order. A recorded withdrawal is the reason, whatever this one says."""


class MarkForAttention(Command, service="order"):
    """In choreography, from what a stuck service says: this order cannot end without help. One that has ended does not mind."""

    step: Text
    error: Text


class OrderPlaced(ForwardEvent, service="order"):
    """The order is PENDING; the saga begins."""


class OrderWithdrawn(BackwardEvent, service="order"):
    """A withdrawal (by the customer or the deadline) was recorded while PENDING. The pivot decides what it is worth."""


class OrderCompleted(Event, service="order"):
    """The end: everything is arranged and held."""


class OrderRejected(BackwardEvent, service="order"):
    """The end: nothing is held."""


class Refusal(StrEnum):
    """Why a withdrawal was refused."""

    ALREADY_ENDED = "already_ended"  # it came after the order's end
    TOO_LATE = "too_late"  # it was recorded, but the pivot had been passed: the order completed in spite of it


class WithdrawalRefused(Event, service="order"):
    """The withdrawal did not take effect."""

    refusal: Refusal


class DeadlinePassed(Command, service="order"):
    """A local input of the order service's watch, never on the wire: look whether this order is overdue."""


class OrderStepFailed(StepFailed, service="order"):
    """Something that must not fail has failed for good here, for this order: NEEDS_ATTENTION."""
