"""Handlers of the delivery service: the table of docs/protocol.md#delivery as pure functions.

A handler takes the command, the documents it declared and the context, and returns an outcome. It knows neither mode.
"""

from collections.abc import Iterable, Mapping

from broker.handler import Context, Documents, Handler, Outcome
from broker.message import Message
from broker.role import Service
from services.delivery.domain import DeliveryState, OrderDelivery, is_served
from services.delivery.messages import (
    FAULTS,
    CancelDelivery,
    DeliveryCancelled,
    DeliveryRejected,
    DeliveryScheduled,
    DeliveryStepFailed,
    ScheduleDelivery,
)
from services.vocabulary import Reason
from store.document import Key


def delivery_keys(command: Message, _: Documents) -> Iterable[Key]:
    """The key of the order's delivery, which is all that the handlers here need."""
    return (OrderDelivery.key_of(command.order_id),)


def schedule_delivery(command: ScheduleDelivery, documents: Documents, context: Context) -> Outcome:
    """Schedule or reject the delivery, once. A repeated command is answered with the stored result."""
    delivery = documents.get(OrderDelivery, command.order_id)
    if delivery is None:
        return _decide(command, context)
    if delivery.state is DeliveryState.SCHEDULED:
        return Outcome(messages=(DeliveryScheduled.from_source(command),))
    return Outcome(messages=(DeliveryRejected(order_id=delivery.order_id, reason=_reason(delivery)),))


def _decide(command: ScheduleDelivery, context: Context) -> Outcome:
    if is_served(command.details.address) and context.injected != Reason.UNDELIVERABLE:
        scheduled = OrderDelivery(order_id=command.order_id, state=DeliveryState.SCHEDULED, details=command.details)
        return Outcome((scheduled,), (DeliveryScheduled.from_source(command),))
    rejected = OrderDelivery(order_id=command.order_id, state=DeliveryState.REJECTED, reason=Reason.UNDELIVERABLE)
    return Outcome((rejected,), (DeliveryRejected(order_id=command.order_id, reason=Reason.UNDELIVERABLE),))


def cancel_delivery(command: CancelDelivery, documents: Documents, _: Context) -> Outcome:
    """Bar the pivot, or answer DeliveryScheduled if it has been passed: the one compensation that can be too late."""
    delivery = documents.get(OrderDelivery, command.order_id)
    if delivery is None:
        tombstone = OrderDelivery(order_id=command.order_id, state=DeliveryState.CANCELLED, reason=command.reason)
        return Outcome((tombstone,), (DeliveryCancelled.from_source(command),))
    if delivery.state is DeliveryState.SCHEDULED:
        assert delivery.details is not None  # noqa: S101 - SCHEDULED is made from ScheduleDelivery, which carries them
        return Outcome(messages=(DeliveryScheduled(order_id=delivery.order_id, details=delivery.details),))
    return Outcome(messages=(DeliveryCancelled(order_id=delivery.order_id, reason=_reason(delivery)),))


def _reason(delivery: OrderDelivery) -> Reason:
    assert delivery.reason is not None  # noqa: S101 - REJECTED and CANCELLED always have one
    return delivery.reason


def delivery_service() -> Service:
    """Build the delivery service."""
    handlers: Mapping[type[Message], Handler] = {
        ScheduleDelivery: Handler(delivery_keys, schedule_delivery),
        CancelDelivery: Handler(delivery_keys, cancel_delivery, must_not_fail=True),
    }
    return Service("delivery", handlers, faults=FAULTS, on_exhausted=DeliveryStepFailed.from_command)
