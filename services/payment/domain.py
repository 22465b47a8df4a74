"""The payment: what stands between an order and the payment gateway, in doubt included.

A payment waits in PENDING or VOIDING with a `due_at`: a hang, a dropped connection, a "pending" and a
crash in between are one case, because the wait is in the document and the watch finds it again.
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
    """How long payment waits. Its patience ends well before the order's deadline, so that the order learns the true reason."""

    #: Until a payment that waits is looked at again; longer than one call to the gateway may take.
    poll_interval_s: float = 2.0
    #: Until an authorization without a final answer is voided.
    authorize_timeout_s: float = 8.0
    #: Until a void that the gateway does not confirm is said to need attention; it is asked for all the same, for ever.
    escalate_after_s: float = 60.0


class PaymentState(StrEnum):
    """Where a payment stands."""

    PENDING = "PENDING"  # the gateway was, or is about to be, asked to authorize
    VOIDING = "VOIDING"  # the gateway must say "voided" before anything is published
    AUTHORIZED = "AUTHORIZED"  # the gateway holds the money
    DECLINED = "DECLINED"  # the gateway holds nothing, by its own decision or after our patience
    VOIDED = "VOIDED"  # undone, or barred before it was asked: also the tombstone


class Payment(Document):
    """The payment of one order. A tombstone (voided before it was asked) has no `details`; kept as long as the order.

    `void_requested`: VoidPayment has come, so the answer to VOIDING is PaymentVoided; otherwise our own patience ran out and it is
    PaymentDeclined."""

    collection: ClassVar[str] = "payments"

    order_id: str
    state: PaymentState
    details: OrderDetails | None = None
    reason: Reason | None = None
    void_requested: bool = False
    authorize_until: float | None = None
    #: While VOIDING: when somebody is told that the gateway does not confirm; None once that was said.
    escalate_after: float | None = None
    due_at: float | None = None

    def voiding(self, reason: Reason, now: float, timeouts: PaymentTimeouts, *, void_requested: bool) -> "Payment":
        """The gateway is asked to void, and is asked again until it says so."""
        voiding = self.copy_with(state=PaymentState.VOIDING, reason=reason, void_requested=void_requested, authorize_until=None)
        return voiding.copy_with(due_at=now + timeouts.poll_interval_s, escalate_after=now + timeouts.escalate_after_s)

    def ended(self, state: PaymentState, reason: Reason | None = None) -> "Payment":
        """At rest: nothing is waited for any more."""
        return self.copy_with(state=state, reason=reason, due_at=None, authorize_until=None, escalate_after=None)

    def call(self, verb: Verb) -> GatewayCall:
        """The call that asks the gateway about this payment."""
        details = self.details
        return GatewayCall(
            order_id=self.order_id,
            verb=verb,
            amount_cents=details.total_cents if details else 0,
            currency=details.currency if details else "",
        )
