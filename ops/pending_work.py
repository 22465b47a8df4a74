"""What an order holds now, and the commands that remain until it ends.

In the orchestrated mode the saga run says what remains. In choreography no service knows it, so it is inferred here from all four
databases, which no service may read together. That this is needed is a finding of the comparison.
"""

from bootstrap.modes import Mode
from ops.snapshot import Snapshot
from orchestrator.fulfilment import FULFILMENT
from orchestrator.saga import Phase, SagaRun
from services.delivery.domain import DeliveryState
from services.inventory.domain import ReservationState
from services.message_types import DELIVERY, INVENTORY, PAYMENT
from services.order.domain import Order, OrderState
from services.order.messages import PlaceOrder
from services.payment.domain import PaymentState

_UNDONE_PAYMENT = (PaymentState.DECLINED, PaymentState.VOIDED)


def held_resources(snapshot: Snapshot, order_id: str) -> dict[str, object]:
    """What is held for the order: `stock` (SKU -> units), `payment` and `delivery` (their states). Empty when nothing is held."""
    result: dict[str, object] = {}
    reservation = snapshot.reservations.get(order_id)
    if reservation and reservation.state is ReservationState.HELD:
        result["stock"] = dict(reservation.quantities)
    payment = snapshot.payments.get(order_id)
    if payment and payment.state not in _UNDONE_PAYMENT:
        result["payment"] = str(payment.state)
    delivery = snapshot.deliveries.get(order_id)
    if delivery and delivery.state is DeliveryState.SCHEDULED:
        result["delivery"] = str(delivery.state)
    return result


def pending_commands(mode: Mode, snapshot: Snapshot, order_id: str) -> list[str]:
    """The commands that remain, in order, if no further step fails. Empty for an order that has ended or does not exist."""
    order = snapshot.orders.get(order_id)
    if order is None or order.ended:
        return []
    if order.state is OrderState.TOMBSTONE:
        return [f"{PlaceOrder.__name__} (not received yet; it will be rejected)"]
    run = snapshot.sagas.get(order_id)
    if mode is Mode.ORCHESTRATOR:
        return _from_saga(run) if run else [step.command.__name__ for step in FULFILMENT.steps]
    return _infer(snapshot, order)


def _from_saga(run: SagaRun) -> list[str]:
    if run.phase is Phase.AT:
        return [step.command.__name__ for step in FULFILMENT.steps[run.step :]]
    undos = [step.undo.__name__ for step in reversed(FULFILMENT.steps[: run.step + 1]) if step.undo]
    if run.phase is Phase.UNDO:
        return [*undos, FULFILMENT.rejects.__name__]
    return [FULFILMENT.rejects.__name__] if run.phase is Phase.ENDING else []


def _infer(snapshot: Snapshot, order: Order) -> list[str]:
    """The commands that remain, by the documents of each step's service. A service without documents here counts as pending."""
    reservation = snapshot.reservations.get(order.order_id)
    payment = snapshot.payments.get(order.order_id)
    delivery = snapshot.deliveries.get(order.order_id)
    released = reservation is not None and reservation.state is not ReservationState.HELD
    voided = payment is not None and payment.state in _UNDONE_PAYMENT
    voiding = payment is not None and payment.state is PaymentState.VOIDING
    scheduled = delivery is not None and delivery.state is DeliveryState.SCHEDULED
    ruled_out = delivery is not None and not scheduled
    if scheduled or not (order.withdrawn or released or voided or voiding or ruled_out):
        authorized = payment is not None and payment.state is PaymentState.AUTHORIZED
        done = {INVENTORY: reservation is not None, PAYMENT: authorized, DELIVERY: delivery is not None}
        return [step.command.__name__ for step in FULFILMENT.steps if not done.get(step.command.service, False)]
    # Only a withdrawal cancels the delivery: a refusal comes from the delivery itself or from a step before it.
    undone = {INVENTORY: released, PAYMENT: voided, DELIVERY: ruled_out or not order.withdrawn}
    undos = [step.undo for step in reversed(FULFILMENT.steps) if step.undo]
    return [*(undo.__name__ for undo in undos if not undone.get(undo.service, False)), FULFILMENT.rejects.__name__]
