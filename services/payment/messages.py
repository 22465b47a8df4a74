"""Messages of the payment service: its commands and events, its local inputs, and the words of the payment gateway.

AuthorizePayment is a compensatable step and VoidPayment its compensation. Neither is answered before the gateway has given a
clear answer. GatewayAnswered and PollGateway are local inputs: the worker creates them itself, and they never travel.
"""

from enum import StrEnum

from broker.message import Command
from services.vocabulary import BackwardCommand, BackwardEvent, ForwardCommand, ForwardEvent, StepFailed

#: The business faults that can be injected into the payment gateway with an order.
FAULTS = frozenset({"declined", "pending", "hang", "error", "drop", "slow", "void_error"})


class Verb(StrEnum):
    """The calls that the payment service makes to the payment gateway."""

    AUTHORIZE = "authorize"
    VOID = "void"


class Answer(StrEnum):
    """The result of a call. Everything that is not a clear answer of the gateway is IN_DOUBT: it may or may not have acted."""

    AUTHORIZED = "authorized"
    DECLINED = "declined"
    VOIDED = "voided"
    PENDING = "pending"  # the gateway has not decided yet: call again
    IN_DOUBT = "in_doubt"  # timeout, 5xx, dropped connection: call again


class AuthorizePayment(ForwardCommand, service="payment"):
    """Get the order's total authorized at the payment gateway."""


class VoidPayment(BackwardCommand, service="payment"):
    """The compensation of AuthorizePayment. Answered by PaymentVoided, but not before the gateway has said "voided"."""


class PaymentAuthorized(ForwardEvent, service="payment"):
    """The gateway holds the money."""


class PaymentDeclined(BackwardEvent, service="payment"):
    """The gateway holds nothing: it declined, or the authorization was voided because it had no final answer in time."""


class PaymentVoided(BackwardEvent, service="payment"):
    """The gateway holds nothing any more, and never will."""


class GatewayAnswered(Command, service="payment"):
    """A local input: the result of a call to the payment gateway."""

    verb: Verb
    answer: Answer


class PollGateway(Command, service="payment"):
    """A local input of payment's timer: the `due_at` of this payment has passed."""


class PaymentStepFailed(StepFailed, service="payment"):
    """A command that must not fail has exhausted its retry budget at the payment service, or the gateway does not confirm a void:
    the order needs attention."""
