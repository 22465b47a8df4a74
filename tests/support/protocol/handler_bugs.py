"""Rules R1, R2, R3 and R6 of docs/protocol.md#rules removed, one at a time: handlers and gateways that do not follow them.

A wrapper takes the real handler's `handle` and returns one without the rule. C1 to C11 are the counterexamples of
docs/protocol.md#counterexamples.
"""

from collections.abc import Callable
from dataclasses import replace

from broker.handler import NOTHING, Context, Documents, Handle, Outcome
from broker.message import Command
from services.delivery.domain import DeliveryState, OrderDelivery
from services.delivery.messages import CancelDelivery, DeliveryRejected
from services.inventory.domain import Reservation, ReservationState, Stock
from services.inventory.messages import ReleaseStock, StockRejected
from services.order.domain import Order, OrderState
from services.order.messages import RejectOrder, WithdrawOrder
from services.payment.domain import Payment, PaymentState
from services.payment.messages import Answer, GatewayAnswered, PaymentDeclined, PaymentVoided, PollGateway, VoidPayment
from services.vocabulary import ForwardCommand, Reason
from tests.support.protocol.gateway_model import GatewayModel

# -- R1: in doubt at the gateway


def void_published_before_the_gateway_confirms(real: Handle) -> Handle:
    """C1: the void is requested, but the payment is VOIDED at once."""

    def void(command: VoidPayment, documents: Documents, context: Context) -> Outcome:
        outcome = real(command, documents, context)
        if not outcome.calls:
            return outcome
        (payment,) = outcome.documents
        assert isinstance(payment, Payment)
        voided = PaymentVoided(order_id=command.order_id, reason=command.reason)
        return Outcome((payment.ended(PaymentState.VOIDED, command.reason),), (voided,), outcome.calls)

    return void


def tombstone_without_calling_the_gateway(real: Handle) -> Handle:
    """C2: a payment that does not exist yet is barred by a tombstone only, without a call to the gateway."""

    def void(command: VoidPayment, documents: Documents, context: Context) -> Outcome:
        if documents.get(Payment, command.order_id):
            return real(command, documents, context)
        tombstone = Payment(order_id=command.order_id, state=PaymentState.VOIDED, reason=command.reason)
        return Outcome((tombstone,), (PaymentVoided.from_source(command),))

    return void


class ForgetsUnknownVoids(GatewayModel):
    """C3: a void of an unknown key is answered "voided" but not stored."""

    def void(self, order_id: str) -> Answer | None:
        return super().void(order_id) if order_id in self.books else Answer.VOIDED


class AuthorizesAfterVoid(GatewayModel):
    """A void is not final: an authorization that arrives later is decided again."""

    def authorize(self, order_id: str) -> Answer | None:
        if self.books.get(order_id) is Answer.VOIDED:
            del self.books[order_id]
        return super().authorize(order_id)


def timeout_published_at_once(real: Handle) -> Handle:
    """After the authorization timeout the payment is DECLINED at once; the void is requested, but not waited for."""

    def poll_gateway(command: PollGateway, documents: Documents, context: Context) -> Outcome:
        outcome = real(command, documents, context)
        payment = documents.get(Payment, command.order_id)
        if not payment or payment.authorize_until is None or context.now < payment.authorize_until:
            return outcome
        declined = PaymentDeclined(order_id=command.order_id, reason=Reason.PAYMENT_TIMEOUT)
        return Outcome((payment.ended(PaymentState.DECLINED, Reason.PAYMENT_TIMEOUT),), (declined,), outcome.calls)

    return poll_gateway


def calls_not_repeated(real: Handle) -> Handle:
    """A call whose answer was lost, pending or in doubt is not repeated at `due_at`."""

    def poll_gateway(command: PollGateway, documents: Documents, context: Context) -> Outcome:
        outcome = real(command, documents, context)
        payment = documents.get(Payment, command.order_id)
        timed_out = payment and payment.authorize_until is not None and context.now >= payment.authorize_until
        return outcome if timed_out else replace(outcome, calls=())

    return poll_gateway


# -- R2: one answer while voiding


def void_while_voiding_forgotten(real: Handle) -> Handle:
    """C4: VoidPayment for a payment that is VOIDING already is dropped as a repetition."""

    def void(command: VoidPayment, documents: Documents, context: Context) -> Outcome:
        payment = documents.get(Payment, command.order_id)
        return NOTHING if payment and payment.state is PaymentState.VOIDING else real(command, documents, context)

    return void


def late_authorization_applied(real: Handle) -> Handle:
    """An "authorized" that arrives while the payment is VOIDING is applied."""

    def answered(command: GatewayAnswered, documents: Documents, context: Context) -> Outcome:
        payment = documents.get(Payment, command.order_id)
        if payment and payment.state is PaymentState.VOIDING and command.answer is Answer.AUTHORIZED and payment.details:
            documents.put(payment.copy_with(state=PaymentState.PENDING))
        return real(command, documents, context)

    return answered


# -- R3: compensations answer with their own event and leave tombstones


def refusal_repeated_by_delivery(real: Handle) -> Handle:
    """C5: CancelDelivery for a refused delivery is answered with the refusal again."""

    def cancel(command: CancelDelivery, documents: Documents, context: Context) -> Outcome:
        delivery = documents.get(OrderDelivery, command.order_id)
        if delivery and delivery.state is DeliveryState.REJECTED and delivery.reason:
            return Outcome(messages=(DeliveryRejected(order_id=command.order_id, reason=delivery.reason),))
        return real(command, documents, context)

    return cancel


def refusal_repeated_by_payment(real: Handle) -> Handle:
    """C5: VoidPayment for a declined payment is answered with the refusal again."""

    def void(command: VoidPayment, documents: Documents, context: Context) -> Outcome:
        payment = documents.get(Payment, command.order_id)
        if payment and payment.state is PaymentState.DECLINED and payment.reason:
            return Outcome(messages=(PaymentDeclined(order_id=command.order_id, reason=payment.reason),))
        return real(command, documents, context)

    return void


def refusal_repeated_by_inventory(real: Handle) -> Handle:
    """C5: ReleaseStock for a refused reservation is answered with the refusal again."""

    def release(command: ReleaseStock, documents: Documents, context: Context) -> Outcome:
        reservation = documents.get(Reservation, command.order_id)
        if reservation and reservation.state is ReservationState.REJECTED and reservation.reason:
            return Outcome(messages=(StockRejected(order_id=command.order_id, reason=reservation.reason),))
        return real(command, documents, context)

    return release


def undone_without_answer(real: Handle) -> Handle:
    """A compensation that finds nothing to undo is not answered."""

    def undo(command: Command, documents: Documents, context: Context) -> Outcome:
        outcome = real(command, documents, context)
        return outcome if outcome.documents else NOTHING

    return undo


def no_tombstone(kind: type[OrderDelivery] | type[Reservation]) -> Callable[[Handle], Handle]:
    """C11: a compensation that finds no document leaves no tombstone."""

    def wrap(real: Handle) -> Handle:
        def undo(command: Command, documents: Documents, context: Context) -> Outcome:
            outcome = real(command, documents, context)
            return outcome if documents.get(kind, command.order_id) else replace(outcome, documents=())

        return undo

    return wrap


def tombstone_expires(
    kind: type[OrderDelivery] | type[Reservation] | type[Payment], tombstone: str
) -> Callable[[Handle], Handle]:
    """C11: a forward step no longer finds the tombstone of what was released, voided or cancelled."""

    def wrap(real: Handle) -> Handle:
        def forward(command: ForwardCommand, documents: Documents, context: Context) -> Outcome:
            document = documents.get(kind, command.order_id)
            if not document or document.state != tombstone:
                return real(command, documents, context)
            left = Documents()
            left.add([kind.key_of(command.order_id)], {})
            if kind is Reservation:
                skus = command.details.quantities()
                left.add([Stock.key_of(sku) for sku in skus], {})
                for article in filter(None, (documents.get(Stock, sku) for sku in skus)):
                    left.put(article)
            return real(command, left, context)

        return forward

    return wrap


# -- R6: the first withdrawal is the reason


def withdrawal_before_the_order_forgotten(real: Handle) -> Handle:
    """WithdrawOrder before PlaceOrder leaves no tombstone."""

    def withdraw(command: WithdrawOrder, documents: Documents, context: Context) -> Outcome:
        return real(command, documents, context) if documents.get(Order, command.order_id) else NOTHING

    return withdraw


def reason_of_the_message(real: Handle) -> Handle:
    """C8: the rejection takes the reason of the message, not that of the recorded withdrawal."""

    def reject(command: RejectOrder, documents: Documents, context: Context) -> Outcome:
        outcome = real(command, documents, context)
        rejected = tuple(order.copy_with(reason=command.reason) for order in outcome.documents if isinstance(order, Order))
        return replace(outcome, documents=rejected)

    return reject


def last_withdrawal_counts(real: Handle) -> Handle:
    """A later withdrawal overwrites the first."""

    def withdraw(command: WithdrawOrder, documents: Documents, context: Context) -> Outcome:
        order = documents.get(Order, command.order_id)
        if order and order.state is OrderState.PENDING:
            documents.put(order.copy_with(withdrawn=None))
        return real(command, documents, context)

    return withdraw
