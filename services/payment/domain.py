"""The payment of an order: its states, its waits, and the calls to the payment gateway that it needs.

A payment waits in PENDING or VOIDING with a `due_at`. A call that hangs, a dropped connection, the answer "pending" and a crash
are one and the same case: the wait is stored in the document, and the timer finds it again.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

from services.payment.gateway import GatewayCall
from services.payment.messages import Verb
from services.vocabulary import OrderDetails, Reason
from store.document import Document


@dataclass(frozen=True, slots=True)
class PaymentTimeouts:
    """The waits of payment. The authorization timeout ends before the order's deadline, so the order gets the true reason."""

    #: Until a payment that waits for the gateway is polled again.
    poll_interval_s: float = 2.0
    #: Until an authorization without a final answer is voided.
    authorize_timeout_s: float = 8.0
    #: Until a void that the gateway does not confirm is escalated. It is repeated without end.
    escalate_after_s: float = 60.0


class PaymentState(StrEnum):
    """The state of a payment."""

    PENDING = "PENDING"  # the authorization was, or is about to be, requested
    VOIDING = "VOIDING"  # nothing is published before the gateway answers "voided"
    AUTHORIZED = "AUTHORIZED"  # the gateway holds the money
    DECLINED = "DECLINED"  # the gateway holds nothing: it declined, or the authorization timed out
    VOIDED = "VOIDED"  # voided, or barred before it was requested; this is also the tombstone


class Payment(Document):
    """The payment of one order. A tombstone (voided before it was requested) has no `details`. It never expires.

    `void_requested`: VoidPayment has arrived, so VOIDING ends with PaymentVoided. Without it the authorization timed out, and
    VOIDING ends with PaymentDeclined."""

    collection: ClassVar[str] = "payments"

    order_id: str
    state: PaymentState
    details: OrderDetails | None = None
    reason: Reason | None = None
    void_requested: bool = False
    authorize_until: float | None = None
    #: While VOIDING: when the void is escalated; None once it was.
    escalate_after: float | None = None
    due_at: float | None = None

    def voiding(self, reason: Reason, now: float, timeouts: PaymentTimeouts, *, void_requested: bool) -> "Payment":
        """The payment, VOIDING: the void is repeated until the gateway confirms it."""
        voiding = self.copy_with(state=PaymentState.VOIDING, reason=reason, void_requested=void_requested, authorize_until=None)
        return voiding.copy_with(due_at=now + timeouts.poll_interval_s, escalate_after=now + timeouts.escalate_after_s)

    def ended(self, state: PaymentState, reason: Reason | None = None) -> "Payment":
        """The payment in `state`, without any wait."""
        return self.copy_with(state=state, reason=reason, due_at=None, authorize_until=None, escalate_after=None)

    def call(self, verb: Verb) -> GatewayCall:
        """The call to the gateway for this payment."""
        details = self.details
        return GatewayCall(
            order_id=self.order_id,
            verb=verb,
            amount_cents=details.total_cents if details else 0,
            currency=details.currency if details else "",
        )
