"""Stock and reservations: all lines of an order or none, and what is held is deducted when it is held.

For every SKU, at every moment: received = available + held, and neither is negative.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field

from services.vocabulary import Reason
from store.document import Document


class Stock(Document):
    """One article. `received` counts every unit that ever came in (or was written off): available + held."""

    collection: ClassVar[str] = "stock"
    id_field: ClassVar[str] = "sku"

    sku: str
    received: Annotated[int, Field(ge=0)] = 0
    available: Annotated[int, Field(ge=0)] = 0
    held: Annotated[int, Field(ge=0)] = 0

    def receive(self, quantity: int) -> "Stock":
        """Book units in, or with a negative quantity out; never below what is available."""
        return self._updated(received=self.received + quantity, available=self.available + quantity)

    def hold(self, quantity: int) -> "Stock":
        return self._updated(available=self.available - quantity, held=self.held + quantity)

    def release(self, quantity: int) -> "Stock":
        return self._updated(available=self.available + quantity, held=self.held - quantity)

    def _updated(self, **changes: int) -> "Stock":
        updated = self.copy_with(**changes)
        if updated.available < 0 or updated.held < 0 or updated.received != updated.available + updated.held:
            msg = f"stock of {self.sku} does not add up: {updated!r}"
            raise ValueError(msg)
        return updated


class ReservationState(StrEnum):
    """Where a reservation stands."""

    HELD = "HELD"  # all lines are deducted from what is available
    REJECTED = "REJECTED"  # nothing was ever held; decided once
    RELEASED = "RELEASED"  # given back, or barred before it was asked: also the tombstone


class Reservation(Document):
    """What one order holds. A tombstone (released before it was asked) has no `quantities`; kept as long as the order."""

    collection: ClassVar[str] = "reservations"

    order_id: str
    state: ReservationState
    #: SKU -> how many; what is, or was, held.
    quantities: dict[str, int] = Field(default_factory=dict)
    reason: Reason | None = None


def refusal_of(wanted: Mapping[str, int], stock: Mapping[str, Stock | None]) -> Reason | None:
    """Why this stock cannot serve all of `wanted` (SKU -> quantity), or None if it can."""
    if any(stock[sku] is None for sku in wanted):
        return Reason.UNKNOWN_SKU
    if any(article.available < wanted[sku] for sku, article in stock.items() if article):
        return Reason.OUT_OF_STOCK
    return None
