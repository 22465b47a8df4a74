"""What an order holds now, and what remains to be done until its end.

In the orchestrated mode the saga's run knows what remains. In choreography nobody does: it is inferred here from four
databases at once, which no service may do; that this page is needed is a finding of the comparison.
"""

from bootstrap.modes import Mode
from ops.snapshot import Snapshot
from orchestrator.fulfilment import FULFILMENT
from orchestrator.saga import Phase, SagaRun
from services.delivery.domain import DeliveryState
from services.inventory.domain import ReservationState
from services.order.domain import Order, OrderState
from services.payment.domain import PaymentState

_UNDONE_PAYMENT = (PaymentState.DECLINED, PaymentState.VOIDED)


def held_resources(snapshot: Snapshot, order_id: str) -> dict[str, object]:
    """What is held for the order: `stock` (SKU -> units), `payment` and `delivery` (their states). Empty when nothing is."""
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
    """The commands still to be carried out, in order, if nothing else goes wrong. Empty for an order that has ended."""
    order = snapshot.orders.get(order_id)
    if order is None or order.ended:
        return []
    if order.state is OrderState.TOMBSTONE:
        return ["PlaceOrder (still on its way; it will be rejected)"]
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
    reservation, payment = snapshot.reservations.get(order.order_id), snapshot.payments.get(order.order_id)
    delivery = snapshot.deliveries.get(order.order_id)
    stock_released = reservation is not None and reservation.state is not ReservationState.HELD
    payment_undone = payment is not None and (payment.state in _UNDONE_PAYMENT or payment.state is PaymentState.VOIDING)
    delivery_ruled_out = delivery is not None and delivery.state is not DeliveryState.SCHEDULED
    if not (order.withdrawn or stock_released or payment_undone or delivery_ruled_out) or (delivery and not delivery_ruled_out):
        done_steps = (reservation, payment and payment.state is PaymentState.AUTHORIZED, delivery)
        forward = [step.command.__name__ for step, done in zip(FULFILMENT.steps, done_steps, strict=False) if not done]
        return [*forward, FULFILMENT.steps[-1].command.__name__]
    compensations = [
        ("CancelDelivery", order.withdrawn and not delivery_ruled_out),
        ("VoidPayment", not (payment and payment.state in _UNDONE_PAYMENT)),
    ]
    compensations += [("ReleaseStock", not stock_released), ("RejectOrder", True)]
    return [command for command, is_open in compensations if is_open]
