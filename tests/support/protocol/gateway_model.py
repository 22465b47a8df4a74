"""A model of the payment gateway: the rules of docs/protocol.md#payment-gateway, without transport, storage or time.

Authorize on none -> its decision; on any known key -> that key's present answer; void on anything, unknown
keys included -> voided for ever. Its caller decides what is delayed, lost or doubled. tests/protocol/test_gateway_model.py holds
it against the real rules in payment_gateway/.
"""

from collections.abc import Mapping
from enum import Enum

from services.payment.messages import Answer, Verb


class Decision(Enum):
    """What the gateway makes of an order's first authorization: (the entry in its books, what that settles to in the end)."""

    AUTHORIZES = (Answer.AUTHORIZED, None)
    DECLINES = (Answer.DECLINED, None)
    PENDING_THEN_AUTHORIZED = (Answer.PENDING, Answer.AUTHORIZED)
    PENDING_THEN_DECLINED = (Answer.PENDING, Answer.DECLINED)
    STAYS_PENDING = (Answer.PENDING, Answer.PENDING)
    MUTE = (Answer.AUTHORIZED, Answer.AUTHORIZED)  # holds the money, and never answers an authorization

    @property
    def hangs(self) -> bool:
        """Without patience or a withdrawal, an order with such a gateway never ends."""
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
        """What is answered to one call; None if nothing ever will be."""
        return self.void(order_id) if verb is Verb.VOID else self.authorize(order_id)

    def authorize(self, order_id: str) -> Answer | None:
        first, _ = self.decisions[order_id].value
        answer = self.books.setdefault(order_id, first)
        return None if self.decisions[order_id] is Decision.MUTE else answer

    def void(self, order_id: str) -> Answer | None:
        self.books[order_id] = Answer.VOIDED
        return Answer.VOIDED

    def settle(self, order_id: str) -> None:
        """A pending authorization is decided, if it ever is."""
        if self.books.get(order_id) is Answer.PENDING:
            self.books[order_id] = self.decisions[order_id].value[1] or Answer.PENDING
