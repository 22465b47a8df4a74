"""Stock and reservations. An order holds all of its lines or none, and held units are deducted from the available ones.

For every SKU, at every moment: received = available + held, and none of them is negative.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field

from services.vocabulary import Reason
from store.document import Document


class Stock(Document):
    """The stock of one article. `received` is the sum of all units booked in, less those written off: available + held."""

    collection: ClassVar[str] = "stock"
    id_field: ClassVar[str] = "sku"

    sku: str
    received: Annotated[int, Field(ge=0)] = 0
    available: Annotated[int, Field(ge=0)] = 0
    held: Annotated[int, Field(ge=0)] = 0

    def receive(self, quantity: int) -> "Stock":
        """Book units in, or out with a negative quantity. Raises ValueError if more are booked out than are available."""
        return self._updated(received=self.received + quantity, available=self.available + quantity)

    def hold(self, quantity: int) -> "Stock":
        return self._updated(available=self.available - quantity, held=self.held + quantity)

    def release(self, quantity: int) -> "Stock":
        return self._updated(available=self.available + quantity, held=self.held - quantity)

    def _updated(self, **changes: int) -> "Stock":
        updated = self.copy_with(**changes)
        if updated.available < 0 or updated.held < 0 or updated.received != updated.available + updated.held:
            msg = f"the stock of {self.sku} does not add up (received = available + held, none negative): {updated!r}"
            raise ValueError(msg)
        return updated


class ReservationState(StrEnum):
    """The state of a reservation."""

    HELD = "HELD"  # all lines are deducted from what is available
    REJECTED = "REJECTED"  # nothing was held; decided once
    RELEASED = "RELEASED"  # released, or barred before it was requested; this is also the tombstone


class Reservation(Document):
    """The reservation of one order. A tombstone (released before it was requested) has no `quantities`. It never expires."""

    collection: ClassVar[str] = "reservations"

    order_id: str
    state: ReservationState
    #: SKU -> quantity that is, or was, held.
    quantities: dict[str, int] = Field(default_factory=dict)
    reason: Reason | None = None


def refusal_of(wanted: Mapping[str, int], stock: Mapping[str, Stock | None]) -> Reason | None:
    """Why `stock` cannot serve all of `wanted` (SKU -> quantity), or None if it can."""
    if any(stock[sku] is None for sku in wanted):
        return Reason.UNKNOWN_SKU
    if any(article.available < wanted[sku] for sku, article in stock.items() if article):
        return Reason.OUT_OF_STOCK
    return None
