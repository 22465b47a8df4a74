"""The delivery of an order. SCHEDULED is final: the pivot has been passed and the order goes forward."""

from enum import StrEnum
from typing import ClassVar

from services.vocabulary import DeliveryAddress, OrderDetails, Reason
from store.document import Document

#: Countries (ISO 3166) that are not delivered to: Antarctica.
NOT_SERVED = frozenset({"AQ"})


class DeliveryState(StrEnum):
    """The state of a delivery."""

    SCHEDULED = "SCHEDULED"  # final
    REJECTED = "REJECTED"  # refused for good: undeliverable
    CANCELLED = "CANCELLED"  # cancelled before it was requested; this is also the tombstone


class OrderDelivery(Document):
    """The delivery of one order. It never expires, so that a late ScheduleDelivery finds it."""

    collection: ClassVar[str] = "deliveries"

    order_id: str
    state: DeliveryState
    details: OrderDetails | None = None
    reason: Reason | None = None


def is_served(address: DeliveryAddress) -> bool:
    return address.country not in NOT_SERVED
