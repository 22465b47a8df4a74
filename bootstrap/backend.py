"""What a worker stands on: the `Backend` protocol that every back end implements, and the payment worker's calls to its gateway."""

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
from services.payment.messages import AuthorizePayment, GatewayAnswered
from services.registry import Timeouts
from store.protocol import Store


@dataclass(frozen=True, slots=True)
class BookEntry:
    """What the payment gateway has in its books for one key: its state (`authorized`, `declined`, ...) and the amount."""

    state: str
    amount_cents: int


@dataclass(frozen=True, slots=True)
class GatewayBooks:
    """The gateway's books for one mode: payments by key, and failure (`declined`) -> the keys on which it acted."""

    payments: Mapping[str, BookEntry] = field(default_factory=dict)
    triggered_faults: Mapping[str, Collection[str]] = field(default_factory=dict)


class GatewayUnreachable(Exception):  # noqa: N818 - it names what happened
    """The payment gateway's books cannot be read."""


#: The one worker that calls the payment gateway.
PAYMENT = AuthorizePayment.service


class Backend(Protocol):
    """What a system stands on. Every call gives a new client; the data behind it outlives its clients."""

    environment: Environment
    timeouts: Timeouts
    limits: Limits

    def transport(self, worker: str) -> Transport: ...

    def store(self, worker: str) -> Store: ...

    def gateway(self) -> PaymentGateway: ...

    async def books(self) -> GatewayBooks:
        """The payment gateway's own books for this mode."""


def gateway_caller(gateway: PaymentGateway) -> Caller:
    """The payment worker's caller: asks the gateway, and brings its answer in the form that the loop takes."""

    async def call(call: Call, injected: str | None) -> Message:
        assert isinstance(call, GatewayCall)  # noqa: S101 - payment makes no other calls
        answer = await gateway.ask(call, injected)
        return GatewayAnswered(order_id=call.order_id, verb=call.verb, answer=answer)

    return call
