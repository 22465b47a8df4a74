"""Messages of the order service: its commands and events, its local input, and the faults that it does not offer.

PlaceOrder and WithdrawOrder come from the HTTP API. OrderCompleted and OrderRejected end an order. DeadlinePassed is a local
input: the worker creates it itself, and it never travels.
"""

from collections.abc import Mapping
from enum import StrEnum

from pydantic import field_validator

from broker.faults import MessageFault
from broker.message import Command, Event
from services.vocabulary import BackwardCommand, BackwardEvent, ForwardCommand, ForwardEvent, Reason, StepFailed, Text

#: The message faults that cannot be injected into this service: no other service would undo a command that fails here.
FAULTS_NOT_OFFERED = frozenset({MessageFault.ERROR, MessageFault.UNDO_ERROR})


class PlaceOrder(ForwardCommand, service="order"):
    """From the HTTP API: place this order. Answered by OrderPlaced, or by OrderRejected if its withdrawal came first."""


class WithdrawOrder(BackwardCommand, service="order"):
    """From the HTTP API: the customer takes the order back. Answered by OrderWithdrawn while PENDING, else WithdrawalRefused."""

    @field_validator("reason")
    @classmethod
    def _check_reason(cls, reason: Reason) -> Reason:
        if reason not in (Reason.WITHDRAWN, Reason.DEADLINE):
            raise ValueError("a withdrawal's reason is withdrawn or deadline")
        return reason


class CompleteOrder(Command, service="order"):
    """Complete the order: every step is done. Retriable: it cannot be refused."""


class RejectOrder(BackwardCommand, service="order"):
    """Reject the order: nothing is held any more. A recorded withdrawal is the reason, whatever this command says."""


class MarkForAttention(Command, service="order"):
    """In choreography, made from an escalation (a StepFailed event): record that this order cannot end without an operator.

    Has no effect on an order that has ended."""

    step: Text
    error: Text


class OrderPlaced(ForwardEvent, service="order"):
    """The order is PENDING; its fulfilment begins."""


class OrderWithdrawn(BackwardEvent, service="order"):
    """A withdrawal (by the customer or the deadline) was recorded while PENDING. The pivot decides whether it takes effect."""


class OrderCompleted(Event, service="order"):
    """Final: every step is done and everything is held."""


class OrderRejected(BackwardEvent, service="order"):
    """Final: nothing is held."""


class Refusal(StrEnum):
    """Why a withdrawal was refused."""

    ALREADY_ENDED = "already_ended"  # it came after the order had ended
    TOO_LATE = "too_late"  # it was recorded, but the pivot had been passed: the order completed in spite of it


class WithdrawalRefused(Event, service="order"):
    """The withdrawal did not take effect."""

    refusal: Refusal


class DeadlinePassed(Command, service="order"):
    """A local input of the order service's timer: check whether this order is overdue."""


class OrderStepFailed(StepFailed, service="order"):
    """A command that must not fail has exhausted its retry budget at the order service: the order needs attention."""


#: Command -> the events that may answer it, for the commands whose answers no saga's step names in full.
ANSWERS: Mapping[type[Command], tuple[type[Event], ...]] = {
    PlaceOrder: (OrderPlaced, OrderRejected, OrderWithdrawn),  # OrderWithdrawn when the order's deadline passes
    WithdrawOrder: (OrderWithdrawn, WithdrawalRefused),
    CompleteOrder: (OrderCompleted, WithdrawalRefused),  # WithdrawalRefused for a withdrawal that came after the pivot
}
