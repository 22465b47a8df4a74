"""Handlers of the payment service: the table of docs/protocol.md#payment as pure functions.

A handler takes the command, the documents it declared and the context, and returns an outcome. It knows neither mode, and it
does not call the gateway: the outcome requests the call, the loop makes it after the commit, and the answer arrives as
GatewayAnswered.
"""

from collections.abc import Iterable, Mapping
from functools import partial

from broker.handler import NOTHING, Context, Documents, Handler, Outcome, ProtocolViolation
from broker.message import Event, Message
from broker.role import Service, Timer
from services.payment.domain import Payment, PaymentState, PaymentTimeouts
from services.payment.messages import (
    FAULTS,
    Answer,
    AuthorizePayment,
    GatewayAnswered,
    PaymentAuthorized,
    PaymentDeclined,
    PaymentStepFailed,
    PaymentVoided,
    PollGateway,
    Verb,
    VoidPayment,
)
from services.vocabulary import Reason
from store.document import Key


def payment_keys(command: Message, _: Documents) -> Iterable[Key]:
    """The key of the order's payment, which is all that the handlers here need."""
    return (Payment.key_of(command.order_id),)


def authorize_payment(command: AuthorizePayment, documents: Documents, context: Context, *, timeouts: PaymentTimeouts) -> Outcome:
    """Request the authorization, once. PENDING is committed before the first call; a repeated command gets the stored result."""
    payment = documents.get(Payment, command.order_id)
    if payment is None:
        payment = Payment(
            order_id=command.order_id,
            state=PaymentState.PENDING,
            details=command.details,
            authorize_until=context.now + timeouts.authorize_timeout_s,
            due_at=context.now + timeouts.poll_interval_s,
        )
        return Outcome((payment,), calls=(payment.call(Verb.AUTHORIZE),))
    if payment.state in (PaymentState.PENDING, PaymentState.VOIDING):
        return NOTHING  # it is answered when the gateway has answered
    if payment.state is PaymentState.AUTHORIZED:
        return Outcome(messages=(PaymentAuthorized.from_source(command),))
    return Outcome(messages=(PaymentDeclined(order_id=payment.order_id, reason=_reason(payment)),))


def void_payment(command: VoidPayment, documents: Documents, context: Context, *, timeouts: PaymentTimeouts) -> Outcome:
    """Void the payment, or bar one that may still come. Nothing is published before the gateway has answered "voided"."""
    payment = documents.get(Payment, command.order_id) or Payment(order_id=command.order_id, state=PaymentState.PENDING)
    if payment.state in (PaymentState.DECLINED, PaymentState.VOIDED):
        return Outcome(messages=(PaymentVoided(order_id=payment.order_id, reason=_reason(payment)),))
    if payment.state is PaymentState.VOIDING:
        return Outcome((payment.copy_with(void_requested=True),))  # the one answer will be PaymentVoided
    payment = payment.voiding(command.reason, context.now, timeouts, void_requested=True)
    return Outcome((payment,), calls=(payment.call(Verb.VOID),))


def gateway_answered(answered: GatewayAnswered, documents: Documents, _: Context) -> Outcome:
    """Apply a clear answer of the gateway. A late one is dropped; after "pending" or in doubt the call is repeated later."""
    payment = documents.get(Payment, answered.order_id)
    if payment is None:
        raise ProtocolViolation("the gateway answered for a payment that does not exist")
    if answered.verb is Verb.AUTHORIZE and payment.state is PaymentState.PENDING:
        return _authorization_answered(payment, answered.answer)
    if answered.verb is Verb.VOID and payment.state is PaymentState.VOIDING and answered.answer is Answer.VOIDED:
        return _voided(payment)
    return NOTHING


def _authorization_answered(payment: Payment, answer: Answer) -> Outcome:
    if answer is Answer.AUTHORIZED:
        assert payment.details is not None  # noqa: S101 - PENDING is made from AuthorizePayment, which carries them
        authorized = PaymentAuthorized(order_id=payment.order_id, details=payment.details)
        return Outcome((payment.ended(PaymentState.AUTHORIZED),), (authorized,))
    if answer in (Answer.DECLINED, Answer.VOIDED):
        declined = PaymentDeclined(order_id=payment.order_id, reason=Reason.PAYMENT_DECLINED)
        return Outcome((payment.ended(PaymentState.DECLINED, Reason.PAYMENT_DECLINED),), (declined,))
    return NOTHING


def _voided(payment: Payment) -> Outcome:
    event: Event
    if payment.void_requested:
        state, event = PaymentState.VOIDED, PaymentVoided(order_id=payment.order_id, reason=_reason(payment))
    else:
        state, event = PaymentState.DECLINED, PaymentDeclined(order_id=payment.order_id, reason=_reason(payment))
    return Outcome((payment.ended(state, payment.reason),), (event,))


def poll_gateway(command: PollGateway, documents: Documents, context: Context, *, timeouts: PaymentTimeouts) -> Outcome:
    """Repeat the call for a payment whose `due_at` has passed; after the authorization timeout, void it instead."""
    payment = documents.get(Payment, command.order_id)
    if payment is None or payment.due_at is None or payment.due_at > context.now:
        return NOTHING
    due_at = context.now + timeouts.poll_interval_s
    authorize_until = payment.authorize_until
    if authorize_until is None:
        return _poll_void(payment.copy_with(due_at=due_at), context.now)
    if context.now >= authorize_until:
        payment = payment.voiding(Reason.PAYMENT_TIMEOUT, context.now, timeouts, void_requested=False)
        return Outcome((payment,), calls=(payment.call(Verb.VOID),))
    payment = payment.copy_with(due_at=min(due_at, authorize_until))
    return Outcome((payment,), calls=(payment.call(Verb.AUTHORIZE),))


def _poll_void(payment: Payment, now: float) -> Outcome:
    """Repeat the void, without end; once, after `escalate_after`, report it as a failed step."""
    if payment.escalate_after is None or now < payment.escalate_after:
        return Outcome((payment,), calls=(payment.call(Verb.VOID),))
    failed = PaymentStepFailed(
        order_id=payment.order_id, step="VoidPayment", error="the payment gateway does not confirm the void"
    )
    return Outcome((payment.copy_with(escalate_after=None),), (failed,), calls=(payment.call(Verb.VOID),))


def _reason(payment: Payment) -> Reason:
    assert payment.reason is not None  # noqa: S101 - VOIDING, DECLINED and VOIDED always have one
    return payment.reason


def payment_service(timeouts: PaymentTimeouts) -> Service:
    """Build the payment service."""
    handlers: Mapping[type[Message], Handler] = {
        AuthorizePayment: Handler(payment_keys, partial(authorize_payment, timeouts=timeouts)),
        VoidPayment: Handler(payment_keys, partial(void_payment, timeouts=timeouts), must_not_fail=True),
        GatewayAnswered: Handler(payment_keys, gateway_answered, must_not_fail=True),
        PollGateway: Handler(payment_keys, partial(poll_gateway, timeouts=timeouts), must_not_fail=True),
    }
    return Service(
        "payment",
        handlers,
        timers=(Timer(Payment, fires=PollGateway),),
        faults=FAULTS,
        external_faults=True,
        on_exhausted=PaymentStepFailed.from_command,
    )
