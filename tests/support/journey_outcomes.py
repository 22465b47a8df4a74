"""What must be stored when a journey has ended, in every database and at the gateway: literal values, not computed.

One `Stored` for each order. The two modes may differ in tombstones only (docs/protocol.md#g7): in choreography a withdrawal
enters at the pivot and leaves a tombstone in every service on its way; the orchestrator compensates only the steps that it had
started.
"""

from collections import Counter
from dataclasses import dataclass
from typing import NamedTuple

from bootstrap.modes import Mode
from lab.journeys.run import JourneyResult


class Stored(NamedTuple):
    """One order in every database: the states of its documents, None where there is none."""

    order: str
    reservation: str | None = None
    payment: str | None = None
    delivery: str | None = None
    #: At the gateway.
    book_entry: str | None = None
    withdrawal_refused: str | None = None


@dataclass(frozen=True)
class Expected:
    """What is stored -> number of orders. `choreography`: where it may differ. `has_saga`: the orchestrator started a saga."""

    stored: dict[Stored, int]
    choreography: dict[Stored, int] | None = None
    has_saga: bool = True

    def of(self, mode: Mode) -> dict[Stored, int]:
        differs = mode is Mode.CHOREOGRAPHY and self.choreography is not None
        return self.choreography if differs and self.choreography else self.stored


def stored_of(result: JourneyResult) -> dict[Stored, int]:
    """What is stored, with the number of orders."""
    seen = result.snapshot

    def state(documents: object, order_id: str) -> str | None:
        assert isinstance(documents, dict)
        return str(documents[order_id].state) if order_id in documents else None

    return dict(
        Counter(
            Stored(
                str(order.state),
                state(seen.reservations, order_id),
                state(seen.payments, order_id),
                state(seen.deliveries, order_id),
                state(seen.books, order_id),
                str(order.withdrawal_refused) if order.withdrawal_refused else None,
            )
            for order_id, order in seen.orders.items()
        )
    )


COMPLETED = Stored("COMPLETED", "HELD", "AUTHORIZED", "SCHEDULED", "authorized")
OUT_OF_STOCK = Stored("REJECTED", "REJECTED")
TIMED_OUT = Stored("REJECTED", "RELEASED", "DECLINED", None, "voided")
#: Every step is compensated or barred.
BARRED = {Stored("REJECTED", "RELEASED", "VOIDED", "CANCELLED", "voided"): 1}
#: The orchestrator had started only the first step, or only the first two.
ONE_STARTED = Expected({Stored("REJECTED", "RELEASED"): 1}, BARRED)
TWO_STARTED = Expected({Stored("REJECTED", "RELEASED", "VOIDED", None, "voided"): 1}, BARRED)

EXPECTED: dict[str, Expected] = {
    "happy": Expected({COMPLETED: 1}),
    "out-of-stock": Expected({OUT_OF_STOCK: 1}),
    "last-unit": Expected({COMPLETED: 1, OUT_OF_STOCK: 19}),
    "declined": Expected({Stored("REJECTED", "RELEASED", "DECLINED", None, "declined"): 1}),
    "gateway-hangs": Expected({TIMED_OUT: 1}),
    "gateway-drops": Expected({TIMED_OUT: 1}),
    "pending": Expected({COMPLETED: 1}),
    "undeliverable": Expected({Stored("REJECTED", "RELEASED", "VOIDED", "REJECTED", "voided"): 1}),
    "withdraw-before-it-arrives": Expected({Stored("REJECTED"): 1}, has_saga=False),
    "withdraw-inventory-late": ONE_STARTED,
    "withdraw-inventory-down": ONE_STARTED,
    "withdraw-payment-late": TWO_STARTED,
    "withdraw-payment-down": TWO_STARTED,
    "withdraw-payment-pending": TWO_STARTED,
    "withdraw-delivery-late": Expected(BARRED),
    "withdraw-too-late": Expected({COMPLETED._replace(withdrawal_refused="too_late"): 1}),
    "withdraw-after-end": Expected({COMPLETED._replace(withdrawal_refused="already_ended"): 1}),
    "inventory-down": ONE_STARTED,
    "payment-down": TWO_STARTED,
    "delivery-down": Expected({COMPLETED: 1}),
}
