"""A model of the payment gateway: the rules of docs/protocol.md#payment-gateway, without transport, storage or time.

Authorize on an unknown key -> its decision; on a known key -> its present answer; void on any key, unknown ones included ->
voided for good. The caller decides what is delayed, lost or repeated. tests/protocol/test_gateway_model.py compares it with the
real rules in payment_gateway/.
"""

from collections.abc import Mapping
from enum import Enum

from services.payment.messages import Answer, Verb


class Decision(Enum):
    """The gateway's decision on an order's first authorization: (the entry in its books, what that settles to)."""

    AUTHORIZES = (Answer.AUTHORIZED, None)
    DECLINES = (Answer.DECLINED, None)
    PENDING_THEN_AUTHORIZED = (Answer.PENDING, Answer.AUTHORIZED)
    PENDING_THEN_DECLINED = (Answer.PENDING, Answer.DECLINED)
    STAYS_PENDING = (Answer.PENDING, Answer.PENDING)
    MUTE = (Answer.AUTHORIZED, Answer.AUTHORIZED)  # holds the money and answers no authorization

    @property
    def hangs(self) -> bool:
        """Whether an order never ends unless the authorization times out or the order is withdrawn."""
        return self in (Decision.STAYS_PENDING, Decision.MUTE)

    @property
    def refuses(self) -> bool:
        return self in (Decision.DECLINES, Decision.PENDING_THEN_DECLINED)


class GatewayModel:
    """The gateway's books: order id -> its present answer."""

    def __init__(self, decisions: Mapping[str, Decision]) -> None:
        self.decisions = decisions
        self.books: dict[str, Answer] = {}

    def handle(self, verb: Verb, order_id: str) -> Answer | None:
        """The answer to one call; None if there will be none."""
        return self.void(order_id) if verb is Verb.VOID else self.authorize(order_id)

    def authorize(self, order_id: str) -> Answer | None:
        first, _ = self.decisions[order_id].value
        answer = self.books.setdefault(order_id, first)
        return None if self.decisions[order_id] is Decision.MUTE else answer

    def void(self, order_id: str) -> Answer | None:
        self.books[order_id] = Answer.VOIDED
        return Answer.VOIDED

    def settle(self, order_id: str) -> None:
        """Decide a pending authorization, unless it stays pending."""
        if self.books.get(order_id) is Answer.PENDING:
            self.books[order_id] = self.decisions[order_id].value[1] or Answer.PENDING
