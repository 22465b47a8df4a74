"""What the payment service does with each command and each answer. The table of docs/protocol.md#payment, row by row.

Pure functions of (command, documents, context); neither mode is known here. The gateway is never called
in a handler: the outcome asks for the call, the loop makes it after the commit, and the answer comes back as GatewayAnswered.
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
    """Every command here needs the one payment of its order."""
    return (Payment.key_of(command.order_id),)


def authorize_payment(command: AuthorizePayment, documents: Documents, context: Context, *, timeouts: PaymentTimeouts) -> Outcome:
    """PENDING is committed before the gateway is first called. Asked again, it answers with what holds now."""
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
        return NOTHING  # the answer follows
    if payment.state is PaymentState.AUTHORIZED:
        return Outcome(messages=(PaymentAuthorized.from_source(command),))
    return Outcome(messages=(PaymentDeclined(order_id=payment.order_id, reason=_reason(payment)),))


def void_payment(command: VoidPayment, documents: Documents, context: Context, *, timeouts: PaymentTimeouts) -> Outcome:
    """Undo, or bar what may still come. Nothing is published before the gateway has said "voided"."""
    payment = documents.get(Payment, command.order_id) or Payment(order_id=command.order_id, state=PaymentState.PENDING)
    if payment.state in (PaymentState.DECLINED, PaymentState.VOIDED):
        return Outcome(messages=(PaymentVoided(order_id=payment.order_id, reason=_reason(payment)),))
    if payment.state is PaymentState.VOIDING:
        return Outcome((payment.copy_with(void_requested=True),))  # remembered: the one answer is then PaymentVoided
    payment = payment.voiding(command.reason, context.now, timeouts, void_requested=True)
    return Outcome((payment,), calls=(payment.call(Verb.VOID),))


def gateway_answered(answered: GatewayAnswered, documents: Documents, _: Context) -> Outcome:
    """Take a clear word of the gateway; what is late is dropped, what is pending or in doubt is asked again at `due_at`."""
    payment = documents.get(Payment, answered.order_id)
    if payment is None:
        raise ProtocolViolation("the gateway answered about a payment that was never committed")
    if answered.verb is Verb.AUTHORIZE and payment.state is PaymentState.PENDING:
        return _authorization_answered(payment, answered.answer)
    if answered.verb is Verb.VOID and payment.state is PaymentState.VOIDING and answered.answer is Answer.VOIDED:
        return _voided(payment)
    return NOTHING


def _authorization_answered(payment: Payment, answer: Answer) -> Outcome:
    if answer is Answer.AUTHORIZED:
        assert payment.details is not None  # noqa: S101 - PENDING is made from AuthorizePayment, which has them
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
    """A payment that has waited is asked about again; past its patience it is voided instead."""
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
    """It is VOIDING: there is no patience, only insistence, and after a while somebody is told."""
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
    """The payment service with its patience."""
    handlers: Mapping[type[Message], Handler] = {
        AuthorizePayment: Handler(payment_keys, partial(authorize_payment, timeouts=timeouts)),
        VoidPayment: Handler(payment_keys, partial(void_payment, timeouts=timeouts), compensates=True),
        GatewayAnswered: Handler(payment_keys, gateway_answered, compensates=True),
        PollGateway: Handler(payment_keys, partial(poll_gateway, timeouts=timeouts), compensates=True),
    }
    return Service(
        "payment",
        handlers,
        timers=(Timer(Payment, fires=PollGateway),),
        faults=FAULTS,
        external_faults=True,
        on_exhausted=PaymentStepFailed.from_command,
    )
