"""What the payment service does with each command and each answer. The table of protocol.md section 3, row by row.

Pure functions of (command, documents, context); neither mode is known here. The gateway is never called
in a handler: the outcome asks for the call, the loop makes it after the commit, and the answer comes back as GatewayAnswered.
"""

from collections.abc import Iterable, Mapping
from functools import partial

from broker.handler import NOTHING, Context, Documents, Handler, Outcome, ProtocolViolation
from broker.message import Event, Message
from broker.role import Service, Watch
from services.payment.domain import Payment, PaymentState, PaymentTimes
from services.payment.messages import (
    FAULTS,
    Answer,
    AuthorizePayment,
    GatewayAnswered,
    LookAgain,
    PaymentAuthorized,
    PaymentDeclined,
    PaymentStuck,
    PaymentVoided,
    Verb,
    VoidPayment,
)
from services.vocabulary import Reason
from store.document import Key


def the_payment(command: Message, _: Documents) -> Iterable[Key]:
    """Every command here needs the one payment of its order."""
    return (Payment.key_of(command.order_id),)


def authorize_payment(command: AuthorizePayment, found: Documents, context: Context, *, times: PaymentTimes) -> Outcome:
    """PENDING is committed before the gateway is first called. Asked again, it answers with what holds now."""
    payment = found.get(Payment, command.order_id)
    if payment is None:
        payment = Payment(
            order_id=command.order_id,
            state=PaymentState.PENDING,
            details=command.details,
            patience_until=context.now + times.patience_s,
            due_at=context.now + times.look_again_s,
        )
        return Outcome((payment,), calls=(payment.call(Verb.AUTHORIZE),))
    if payment.state in (PaymentState.PENDING, PaymentState.VOIDING):
        return NOTHING  # the answer follows
    if payment.state is PaymentState.AUTHORIZED:
        return Outcome(messages=(PaymentAuthorized.drawn_from(command),))
    return Outcome(messages=(PaymentDeclined(order_id=payment.order_id, reason=_reason(payment)),))


def void_payment(command: VoidPayment, found: Documents, context: Context, *, times: PaymentTimes) -> Outcome:
    """Undo, or bar what may still come. Nothing is published before the gateway has said "voided"."""
    payment = found.get(Payment, command.order_id) or Payment(order_id=command.order_id, state=PaymentState.PENDING)
    if payment.state in (PaymentState.DECLINED, PaymentState.VOIDED):
        return Outcome(messages=(PaymentVoided(order_id=payment.order_id, reason=_reason(payment)),))
    if payment.state is PaymentState.VOIDING:
        return Outcome((payment.but(asked=True),))  # remembered: the one answer is then PaymentVoided
    payment = payment.voiding(command.reason, context.now, times, asked=True)
    return Outcome((payment,), calls=(payment.call(Verb.VOID),))


def gateway_answered(answered: GatewayAnswered, found: Documents, _: Context) -> Outcome:
    """Take a clear word of the gateway; what is late is dropped, what is pending or in doubt is asked again at `due_at`."""
    payment = found.get(Payment, answered.order_id)
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
    if payment.asked:
        state, event = PaymentState.VOIDED, PaymentVoided(order_id=payment.order_id, reason=_reason(payment))
    else:
        state, event = PaymentState.DECLINED, PaymentDeclined(order_id=payment.order_id, reason=_reason(payment))
    return Outcome((payment.ended(state, payment.reason),), (event,))


def look_again(command: LookAgain, found: Documents, context: Context, *, times: PaymentTimes) -> Outcome:
    """A payment that has waited is asked about again; past its patience it is voided instead."""
    payment = found.get(Payment, command.order_id)
    if payment is None or payment.due_at is None or payment.due_at > context.now:
        return NOTHING
    due_at = context.now + times.look_again_s
    patience_until = payment.patience_until
    if patience_until is None:
        return _insist(payment.but(due_at=due_at), context.now)
    if context.now >= patience_until:
        payment = payment.voiding(Reason.PAYMENT_TIMEOUT, context.now, times, asked=False)
        return Outcome((payment,), calls=(payment.call(Verb.VOID),))
    payment = payment.but(due_at=min(due_at, patience_until))
    return Outcome((payment,), calls=(payment.call(Verb.AUTHORIZE),))


def _insist(payment: Payment, now: float) -> Outcome:
    """It is VOIDING: there is no patience, only insistence, and after a while somebody is told."""
    if payment.insist_until is None or now < payment.insist_until:
        return Outcome((payment,), calls=(payment.call(Verb.VOID),))
    stuck = PaymentStuck(order_id=payment.order_id, step="VoidPayment", error="the payment gateway does not confirm the void")
    return Outcome((payment.but(insist_until=None),), (stuck,), calls=(payment.call(Verb.VOID),))


def _reason(payment: Payment) -> Reason:
    assert payment.reason is not None  # noqa: S101 - VOIDING, DECLINED and VOIDED always have one
    return payment.reason


def payment_service(times: PaymentTimes) -> Service:
    """The payment service with its patience."""
    handlers: Mapping[type[Message], Handler] = {
        AuthorizePayment: Handler(the_payment, partial(authorize_payment, times=times)),
        VoidPayment: Handler(the_payment, partial(void_payment, times=times), compensates=True),
        GatewayAnswered: Handler(the_payment, gateway_answered, compensates=True),
        LookAgain: Handler(the_payment, partial(look_again, times=times), compensates=True),
    }
    return Service(
        "payment",
        handlers,
        watches=(Watch(Payment, wakes=LookAgain),),
        faults=FAULTS,
        external_faults=True,
        gives_up=PaymentStuck.about,
    )
