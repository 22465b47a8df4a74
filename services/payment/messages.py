"""The payment service's messages: the one module of the service that other rooms may import."""

from enum import StrEnum

from broker.message import Command
from services.vocabulary import BackwardCommand, BackwardEvent, ForwardCommand, ForwardEvent, StepFailed

#: The business faults that the payment gateway shows when they are injected with an order.
FAULTS = frozenset({"declined", "pending", "hang", "error", "drop", "slow", "void_error"})


class Verb(StrEnum):
    """What the payment service asks the payment gateway."""

    AUTHORIZE = "authorize"
    VOID = "void"


class Answer(StrEnum):
    """What came back. Everything that is not a clear word of the gateway is IN_DOUBT: it may or may not have been done."""

    AUTHORIZED = "authorized"
    DECLINED = "declined"
    VOIDED = "voided"
    PENDING = "pending"  # the gateway has not decided yet: ask again
    IN_DOUBT = "in_doubt"  # time-out, 5xx, dropped connection: ask again


class AuthorizePayment(ForwardCommand, service="payment"):
    """Get the order's total authorized at the payment gateway."""


class VoidPayment(BackwardCommand, service="payment"):
    """The compensation of AuthorizePayment. Answered by PaymentVoided, but not before the gateway has said "voided"."""


class PaymentAuthorized(ForwardEvent, service="payment"):
    """The gateway holds the money."""


class PaymentDeclined(BackwardEvent, service="payment"):
    """The gateway holds nothing: it declined, or was voided after it gave no answer in time."""


class PaymentVoided(BackwardEvent, service="payment"):
    """The gateway holds nothing any more, and never will."""


class GatewayAnswered(Command, service="payment"):
    """A local input, never on the wire: what came of a call to the payment gateway."""

    verb: Verb
    answer: Answer


class PollGateway(Command, service="payment"):
    """A local input of payment's watch, never on the wire: this payment has waited long enough."""


class PaymentStepFailed(StepFailed, service="payment"):
    """Something that must not fail has failed for good here, for this order: NEEDS_ATTENTION."""
