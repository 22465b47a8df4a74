"""The payment service's side of the payment gateway: what it calls, and the client that calls it over HTTP.

The gateway itself (`payment_gateway/`) is somebody else's system in another process.
"""

from dataclasses import dataclass
from typing import Protocol

from broker.handler import Call
from services.payment.messages import Answer, Verb


@dataclass(frozen=True, slots=True)
class GatewayCall(Call):
    """One call to the gateway, with the order's id as idempotency key. `amount_cents` of a void is informative only."""

    verb: Verb
    amount_cents: int
    currency: str


class PaymentGateway(Protocol):
    """Asks the gateway and gives its answer. Never raises for a fault of the other side: that is Answer.IN_DOUBT."""

    async def ask(self, call: GatewayCall, injected: str | None = None) -> Answer: ...

    async def close(self) -> None: ...
