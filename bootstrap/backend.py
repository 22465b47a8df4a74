"""The `Backend` protocol, which provides transport, store and gateway client, and the payment worker's calls to the gateway."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from broker.environment import Environment
from broker.handler import Call
from broker.limits import Limits
from broker.loop.external_calls import Caller
from broker.message import Message
from broker.transport import Transport
from services.payment.gateway import GatewayCall, PaymentGateway
from services.payment.messages import GatewayAnswered
from services.timeouts import Timeouts
from store.protocol import Store


@dataclass(frozen=True, slots=True)
class BookEntry:
    """One payment in the payment gateway's books: its state (`authorized`, `declined`, ...) and the amount."""

    state: str
    amount_cents: int


@dataclass(frozen=True, slots=True)
class GatewayBooks:
    """The payment gateway's books for one mode: payments by key, and injected failure (`declined`) -> keys it was applied to."""

    payments: Mapping[str, BookEntry] = field(default_factory=dict)
    triggered_faults: Mapping[str, Collection[str]] = field(default_factory=dict)


class GatewayUnreachable(Exception):  # noqa: N818 - it names what happened
    """The payment gateway's books cannot be read."""


#: Seconds that one call to the payment gateway may take, unless a back end is given another limit.
GATEWAY_TIMEOUT_S = 2.0
#: Seconds that the payment gateway leaves a payment pending when that failure is injected, unless it is given another time.
SETTLE_AFTER_S = 3.0


class Backend(Protocol):
    """The servers of one mode, or their stand-ins in memory. Every call returns a new client; the data outlives its clients."""

    environment: Environment
    timeouts: Timeouts
    limits: Limits

    def transport(self, worker: str) -> Transport: ...

    def store(self, worker: str) -> Store: ...

    def gateway(self) -> PaymentGateway: ...

    async def books(self) -> GatewayBooks:
        """The payment gateway's own books for this mode."""


def gateway_caller(gateway: PaymentGateway) -> Caller:
    """The payment worker's caller: calls the gateway and returns the answer as a message for the loop."""

    async def call(call: Call, injected: str | None) -> Message:
        assert isinstance(call, GatewayCall)  # noqa: S101 - payment makes calls of this kind only
        answer = await gateway.call(call, injected)
        return GatewayAnswered(order_id=call.order_id, verb=call.verb, answer=answer)

    return call
