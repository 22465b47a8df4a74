"""What the delivery service does with each command. The table of protocol.md section 3, row by row.

Pure functions of (command, documents, context); neither mode is known here.
"""

from collections.abc import Iterable, Mapping

from broker.handler import Context, Documents, Handler, Outcome
from broker.message import Message
from broker.role import Service
from services.delivery.domain import Delivery, DeliveryState, is_served
from services.delivery.messages import (
    FAULTS,
    CancelDelivery,
    DeliveryCancelled,
    DeliveryRejected,
    DeliveryScheduled,
    DeliveryStuck,
    ScheduleDelivery,
)
from services.vocabulary import Reason
from store.document import Key


def the_delivery(command: Message, _: Documents) -> Iterable[Key]:
    """Every command here needs the one delivery of its order."""
    return (Delivery.key_of(command.order_id),)


def schedule_delivery(command: ScheduleDelivery, found: Documents, context: Context) -> Outcome:
    """The pivot. Asked again, it answers with what holds now."""
    delivery = found.get(Delivery, command.order_id)
    if delivery is None:
        return _decide(command, context)
    if delivery.state is DeliveryState.SCHEDULED:
        return Outcome(messages=(DeliveryScheduled.drawn_from(command),))
    return Outcome(messages=(DeliveryRejected(order_id=delivery.order_id, reason=_reason(delivery)),))


def _decide(command: ScheduleDelivery, context: Context) -> Outcome:
    if is_served(command.details.address) and context.injected != Reason.UNDELIVERABLE:
        scheduled = Delivery(order_id=command.order_id, state=DeliveryState.SCHEDULED, details=command.details)
        return Outcome((scheduled,), (DeliveryScheduled.drawn_from(command),))
    rejected = Delivery(order_id=command.order_id, state=DeliveryState.REJECTED, reason=Reason.UNDELIVERABLE)
    return Outcome((rejected,), (DeliveryRejected(order_id=command.order_id, reason=Reason.UNDELIVERABLE),))


def cancel_delivery(command: CancelDelivery, found: Documents, _: Context) -> Outcome:
    """Bar the pivot if it has not been passed: the one compensation whose answer may be that it is too late."""
    delivery = found.get(Delivery, command.order_id)
    if delivery is None:
        tombstone = Delivery(order_id=command.order_id, state=DeliveryState.CANCELLED, reason=command.reason)
        return Outcome((tombstone,), (DeliveryCancelled.drawn_from(command),))
    if delivery.state is DeliveryState.SCHEDULED:
        assert delivery.details is not None  # noqa: S101 - SCHEDULED is made from ScheduleDelivery, which has them
        return Outcome(messages=(DeliveryScheduled(order_id=delivery.order_id, details=delivery.details),))
    return Outcome(messages=(DeliveryCancelled(order_id=delivery.order_id, reason=_reason(delivery)),))


def _reason(delivery: Delivery) -> Reason:
    assert delivery.reason is not None  # noqa: S101 - REJECTED and CANCELLED always have one
    return delivery.reason


def delivery_service() -> Service:
    """The delivery service."""
    handlers: Mapping[type[Message], Handler] = {
        ScheduleDelivery: Handler(the_delivery, schedule_delivery),
        CancelDelivery: Handler(the_delivery, cancel_delivery, compensates=True),
    }
    return Service("delivery", handlers, faults=FAULTS, gives_up=DeliveryStuck.about)
