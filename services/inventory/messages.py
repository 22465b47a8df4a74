"""Messages of the inventory service: the commands it accepts, the events it publishes, and the faults it can show.

ReserveStock is a compensatable step and ReleaseStock its compensation, which is always answered by StockReleased.
"""

from services.vocabulary import BackwardCommand, BackwardEvent, ForwardCommand, ForwardEvent, StepFailed

#: The business faults that can be injected into this service with an order.
FAULTS = frozenset({"out_of_stock"})


class ReserveStock(ForwardCommand, service="inventory"):
    """Hold stock for all lines of the order, or for none."""


class ReleaseStock(BackwardCommand, service="inventory"):
    """The compensation of ReserveStock. Always answered by StockReleased; before its step it leaves a tombstone."""


class StockReserved(ForwardEvent, service="inventory"):
    """All lines are held."""


class StockRejected(BackwardEvent, service="inventory"):
    """Nothing is held: out of stock, unknown SKU, or released before it was reserved."""


class StockReleased(BackwardEvent, service="inventory"):
    """Nothing is held any more."""


class InventoryStepFailed(StepFailed, service="inventory"):
    """A command that must not fail has exhausted its retry budget at the inventory service: the order needs attention."""
