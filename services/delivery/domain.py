"""The delivery: the pivot. Once SCHEDULED it is final, and the order goes forward."""

from enum import StrEnum
from typing import ClassVar

from services.vocabulary import DeliveryAddress, OrderDetails, Reason
from store.document import Document

#: Countries (ISO 3166) where nobody drives to: Antarctica.
NOT_SERVED = frozenset({"AQ"})


class DeliveryState(StrEnum):
    """Where a delivery stands."""

    SCHEDULED = "SCHEDULED"  # final
    REJECTED = "REJECTED"  # there never will be one: undeliverable
    CANCELLED = "CANCELLED"  # barred before it was asked: also the tombstone


class OrderDelivery(Document):
    """The delivery of one order; kept as long as the order."""

    collection: ClassVar[str] = "deliveries"

    order_id: str
    state: DeliveryState
    details: OrderDetails | None = None
    reason: Reason | None = None


def is_served(address: DeliveryAddress) -> bool:
    return address.country not in NOT_SERVED
