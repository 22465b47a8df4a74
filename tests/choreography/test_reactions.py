"""The reactions of choreography: the rows of docs/protocol.md#reactions, and the ones that cannot be built."""

import re
from collections.abc import Callable

import pytest

from choreography.reaction import Reaction
from choreography.reactions import REACTIONS
from services.inventory.messages import ReserveStock
from services.order.messages import OrderPlaced, OrderWithdrawn, RejectOrder

#: Name -> a part of the error's text, and what raises it.
REFUSED: dict[str, tuple[str, Callable[[], object]]] = {
    "another service's command": ("belongs to", lambda: Reaction(OrderPlaced, "payment", ReserveStock)),
    "an event without details": ("details", lambda: Reaction(OrderWithdrawn, "inventory", ReserveStock)),
    "an event without a reason": ("reason", lambda: Reaction(OrderPlaced, "order", RejectOrder)),
}


@pytest.mark.parametrize("what", REFUSED)
def test_an_invalid_reaction_cannot_be_built(what: str) -> None:
    says, build = REFUSED[what]
    with pytest.raises(ValueError, match=re.escape(says)):
        build()


def test_the_reactions_are_the_eleven_rows_of_the_protocol() -> None:
    rows = [f"{row.when.__name__} -> {row.by} {row.does.__name__}" for row in REACTIONS]
    assert rows == [
        "OrderPlaced -> inventory ReserveStock",
        "StockReserved -> payment AuthorizePayment",
        "PaymentAuthorized -> delivery ScheduleDelivery",
        "DeliveryScheduled -> order CompleteOrder",
        "StockRejected -> order RejectOrder",
        "PaymentDeclined -> inventory ReleaseStock",
        "DeliveryRejected -> payment VoidPayment",
        "OrderWithdrawn -> delivery CancelDelivery",
        "DeliveryCancelled -> payment VoidPayment",
        "PaymentVoided -> inventory ReleaseStock",
        "StockReleased -> order RejectOrder",
    ]
