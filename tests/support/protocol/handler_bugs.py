"""Rules R1, R2, R3 and R6 of protocol.md undone, one at a time: what a handler or the gateway would do without them.

A wrapper takes the real handler's `decide` and gives the one without the rule; C1 to C11 are the
counterexamples of protocol.md section 5.
"""

from collections.abc import Callable
from dataclasses import replace

from broker.handler import NOTHING, Context, Decide, Documents, Outcome
from broker.message import Command
from services.delivery.domain import Delivery, DeliveryState
from services.delivery.messages import CancelDelivery, DeliveryRejected
from services.inventory.domain import Reservation, ReservationState, Stock
from services.inventory.messages import ReleaseStock, StockRejected
from services.order.domain import Order, OrderState
from services.order.messages import RejectOrder, WithdrawOrder
from services.payment.domain import Payment, PaymentState
from services.payment.messages import Answer, GatewayAnswered, LookAgain, PaymentDeclined, PaymentVoided, VoidPayment
from services.vocabulary import ForwardCommand, Reason
from tests.support.protocol.gateway_model import GatewayModel

# -- R1: in doubt at the gateway


def void_published_before_the_gateway_confirms(real: Decide) -> Decide:
    """C1: the void is called, but the payment says VOIDED at once."""

    def void(command: VoidPayment, found: Documents, context: Context) -> Outcome:
        outcome = real(command, found, context)
        if not outcome.calls:
            return outcome
        (payment,) = outcome.documents
        assert isinstance(payment, Payment)
        voided = PaymentVoided(order_id=command.order_id, reason=command.reason)
        return Outcome((payment.ended(PaymentState.VOIDED, command.reason),), (voided,), outcome.calls)

    return void


def tombstone_without_calling_the_gateway(real: Decide) -> Decide:
    """C2: a payment that does not exist yet is barred in our own book only."""

    def void(command: VoidPayment, found: Documents, context: Context) -> Outcome:
        if found.get(Payment, command.order_id):
            return real(command, found, context)
        tombstone = Payment(order_id=command.order_id, state=PaymentState.VOIDED, reason=command.reason)
        return Outcome((tombstone,), (PaymentVoided.drawn_from(command),))

    return void


class ForgetfulGateway(GatewayModel):
    """C3: a void of an unknown key is answered "voided" and not kept."""

    def void(self, order_id: str) -> Answer | None:
        return super().void(order_id) if order_id in self.books else Answer.VOIDED


class RelentingGateway(GatewayModel):
    """A void is not final: the authorization that comes after it is decided anew."""

    def authorize(self, order_id: str) -> Answer | None:
        if self.books.get(order_id) is Answer.VOIDED:
            del self.books[order_id]
        return super().authorize(order_id)


def timeout_published_at_once(real: Decide) -> Decide:
    """When patience is over the payment is DECLINED at once; the void is called, but not waited for."""

    def look_again(command: LookAgain, found: Documents, context: Context) -> Outcome:
        outcome = real(command, found, context)
        payment = found.get(Payment, command.order_id)
        if not payment or payment.patience_until is None or context.now < payment.patience_until:
            return outcome
        declined = PaymentDeclined(order_id=command.order_id, reason=Reason.PAYMENT_TIMEOUT)
        return Outcome((payment.ended(PaymentState.DECLINED, Reason.PAYMENT_TIMEOUT),), (declined,), outcome.calls)

    return look_again


def nothing_is_asked_again(real: Decide) -> Decide:
    """A call whose answer was lost, pending or in doubt is not repeated at `due_at`."""

    def look_again(command: LookAgain, found: Documents, context: Context) -> Outcome:
        outcome = real(command, found, context)
        payment = found.get(Payment, command.order_id)
        impatient = payment and payment.patience_until is not None and context.now >= payment.patience_until
        return outcome if impatient else replace(outcome, calls=())

    return look_again


# -- R2: one answer while voiding


def void_while_voiding_forgotten(real: Decide) -> Decide:
    """C4: the payment is VOIDING already, so VoidPayment is taken for a repetition."""

    def void(command: VoidPayment, found: Documents, context: Context) -> Outcome:
        payment = found.get(Payment, command.order_id)
        return NOTHING if payment and payment.state is PaymentState.VOIDING else real(command, found, context)

    return void


def late_authorization_believed(real: Decide) -> Decide:
    """An "authorized" that arrives while voiding is taken at its word."""

    def answered(command: GatewayAnswered, found: Documents, context: Context) -> Outcome:
        payment = found.get(Payment, command.order_id)
        if payment and payment.state is PaymentState.VOIDING and command.answer is Answer.AUTHORIZED and payment.details:
            found.put(payment.but(state=PaymentState.PENDING))
        return real(command, found, context)

    return answered


# -- R3: compensations answer with their own event and leave tombstones


def refusal_repeated_by_delivery(real: Decide) -> Decide:
    """C5: asked to cancel what was refused, delivery gives the same answer again."""

    def cancel(command: CancelDelivery, found: Documents, context: Context) -> Outcome:
        delivery = found.get(Delivery, command.order_id)
        if delivery and delivery.state is DeliveryState.REJECTED and delivery.reason:
            return Outcome(messages=(DeliveryRejected(order_id=command.order_id, reason=delivery.reason),))
        return real(command, found, context)

    return cancel


def refusal_repeated_by_payment(real: Decide) -> Decide:
    """C5: asked to void what was declined, payment gives the same answer again."""

    def void(command: VoidPayment, found: Documents, context: Context) -> Outcome:
        payment = found.get(Payment, command.order_id)
        if payment and payment.state is PaymentState.DECLINED and payment.reason:
            return Outcome(messages=(PaymentDeclined(order_id=command.order_id, reason=payment.reason),))
        return real(command, found, context)

    return void


def refusal_repeated_by_inventory(real: Decide) -> Decide:
    """C5: asked to release what was refused, inventory gives the same answer again."""

    def release(command: ReleaseStock, found: Documents, context: Context) -> Outcome:
        reservation = found.get(Reservation, command.order_id)
        if reservation and reservation.state is ReservationState.REJECTED and reservation.reason:
            return Outcome(messages=(StockRejected(order_id=command.order_id, reason=reservation.reason),))
        return real(command, found, context)

    return release


def undone_in_silence(real: Decide) -> Decide:
    """A compensation for which there is nothing to do is not answered."""

    def undo(command: Command, found: Documents, context: Context) -> Outcome:
        outcome = real(command, found, context)
        return outcome if outcome.documents else NOTHING

    return undo


def no_tombstone(kind: type[Delivery] | type[Reservation]) -> Callable[[Decide], Decide]:
    """C11: a compensation that finds nothing leaves nothing."""

    def wrap(real: Decide) -> Decide:
        def undo(command: Command, found: Documents, context: Context) -> Outcome:
            outcome = real(command, found, context)
            return outcome if found.get(kind, command.order_id) else replace(outcome, documents=())

        return undo

    return wrap


def tombstone_expires(kind: type[Delivery] | type[Reservation] | type[Payment], tombstone: str) -> Callable[[Decide], Decide]:
    """C11: a forward step no longer finds what was released, voided or cancelled."""

    def wrap(real: Decide) -> Decide:
        def forward(command: ForwardCommand, found: Documents, context: Context) -> Outcome:
            document = found.get(kind, command.order_id)
            if not document or document.state != tombstone:
                return real(command, found, context)
            left = Documents()
            left.add([kind.key_of(command.order_id)], {})
            if kind is Reservation:
                skus = command.details.quantities()
                left.add([Stock.key_of(sku) for sku in skus], {})
                for article in filter(None, (found.get(Stock, sku) for sku in skus)):
                    left.put(article)
            return real(command, left, context)

        return forward

    return wrap


# -- R6: the first withdrawal is the reason


def withdrawal_before_the_order_forgotten(real: Decide) -> Decide:
    """WithdrawOrder before PlaceOrder leaves no tombstone."""

    def withdraw(command: WithdrawOrder, found: Documents, context: Context) -> Outcome:
        return real(command, found, context) if found.get(Order, command.order_id) else NOTHING

    return withdraw


def reason_of_the_message(real: Decide) -> Decide:
    """C8: the rejection takes the reason that its message carries."""

    def reject(command: RejectOrder, found: Documents, context: Context) -> Outcome:
        outcome = real(command, found, context)
        rejected = tuple(order.but(reason=command.reason) for order in outcome.documents if isinstance(order, Order))
        return replace(outcome, documents=rejected)

    return reject


def last_withdrawal_counts(real: Decide) -> Decide:
    """A later withdrawal overwrites the first."""

    def withdraw(command: WithdrawOrder, found: Documents, context: Context) -> Outcome:
        order = found.get(Order, command.order_id)
        if order and order.state is OrderState.PENDING:
            found.put(order.but(withdrawn=None))
        return real(command, found, context)

    return withdraw
