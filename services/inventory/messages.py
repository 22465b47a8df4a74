"""The inventory service's messages: the one module of the service that other rooms may import."""

from services.vocabulary import BackwardCommand, BackwardEvent, ForwardCommand, ForwardEvent, StepFailed

#: The business faults that this service shows when they are injected with an order.
FAULTS = frozenset({"out_of_stock"})


class ReserveStock(ForwardCommand, service="inventory"):
    """Hold stock for all lines of the order, or for none."""


class ReleaseStock(BackwardCommand, service="inventory"):
    """The compensation of ReserveStock. Always answered by StockReleased; before its step it leaves a tombstone."""


class StockReserved(ForwardEvent, service="inventory"):
    """All lines are held."""


class StockRejected(BackwardEvent, service="inventory"):
    """Nothing is held: out of stock, unknown, or undone before it began."""


class StockReleased(BackwardEvent, service="inventory"):
    """Nothing is held any more."""


class InventoryStepFailed(StepFailed, service="inventory"):
    """Something that must not fail has failed for good here, for this order: NEEDS_ATTENTION."""
