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


def held(seen: Snapshot, order_id: str) -> dict[str, object]:
    """What is held for the order: `stock` (SKU -> units), `payment` and `delivery` (their states). Empty when nothing is."""
    holds: dict[str, object] = {}
    reservation = seen.reservations.get(order_id)
    if reservation and reservation.state is ReservationState.HELD:
        holds["stock"] = dict(reservation.quantities)
    payment = seen.payments.get(order_id)
    if payment and payment.state not in _UNDONE_PAYMENT:
        holds["payment"] = str(payment.state)
    delivery = seen.deliveries.get(order_id)
    if delivery and delivery.state is DeliveryState.SCHEDULED:
        holds["delivery"] = str(delivery.state)
    return holds


def remains(mode: Mode, seen: Snapshot, order_id: str) -> list[str]:
    """The commands still to be carried out, in order, if nothing else goes wrong. Empty for an order that has ended."""
    order = seen.orders.get(order_id)
    if order is None or order.ended:
        return []
    if order.state is OrderState.TOMBSTONE:
        return ["PlaceOrder (still on its way; it will be rejected)"]
    run = seen.sagas.get(order_id)
    if mode is Mode.ORCHESTRATOR:
        return _of_the_run(run) if run else [step.command.__name__ for step in FULFILMENT.steps]
    return _inferred(seen, order)


def _of_the_run(run: SagaRun) -> list[str]:
    if run.phase is Phase.AT:
        return [step.command.__name__ for step in FULFILMENT.steps[run.step :]]
    undos = [step.undo.__name__ for step in reversed(FULFILMENT.steps[: run.step + 1]) if step.undo]
    if run.phase is Phase.UNDO:
        return [*undos, FULFILMENT.rejects.__name__]
    return [FULFILMENT.rejects.__name__] if run.phase is Phase.ENDING else []


def _inferred(seen: Snapshot, order: Order) -> list[str]:
    reservation, payment = seen.reservations.get(order.order_id), seen.payments.get(order.order_id)
    delivery = seen.deliveries.get(order.order_id)
    stock_gone = reservation is not None and reservation.state is not ReservationState.HELD
    money_gone = payment is not None and (payment.state in _UNDONE_PAYMENT or payment.state is PaymentState.VOIDING)
    barred = delivery is not None and delivery.state is not DeliveryState.SCHEDULED
    if not (order.withdrawn or stock_gone or money_gone or barred) or (delivery and not barred):
        asked = (reservation, payment and payment.state is PaymentState.AUTHORIZED, delivery)
        forward = [step.command.__name__ for step, done in zip(FULFILMENT.steps, asked, strict=False) if not done]
        return [*forward, FULFILMENT.steps[-1].command.__name__]
    back = [
        ("CancelDelivery", order.withdrawn and not barred),
        ("VoidPayment", not (payment and payment.state in _UNDONE_PAYMENT)),
    ]
    back += [("ReleaseStock", not stock_gone), ("RejectOrder", True)]
    return [command for command, is_open in back if is_open]
