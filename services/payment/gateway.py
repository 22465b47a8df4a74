"""The port to the payment gateway: the call that a handler requests, and the client that makes it.

Implemented over HTTP by `gateway_http.py` and in the same process by `bootstrap/in_process_gateway.py`. The gateway itself
(`payment_gateway/`) stands for another company's system.
"""

from dataclasses import dataclass
from typing import Protocol

from broker.handler import Call
from services.payment.messages import Answer, Verb


@dataclass(frozen=True, slots=True)
class GatewayCall(Call):
    """One call to the gateway, with the order's id as idempotency key. In a void, `amount_cents` is informative only."""

    verb: Verb
    amount_cents: int
    currency: str


class PaymentGateway(Protocol):
    """A client of the payment gateway. A fault of the gateway or the connection raises nothing: it is Answer.IN_DOUBT."""

    async def call(self, call: GatewayCall, injected: str | None = None) -> Answer: ...

    async def close(self) -> None: ...
