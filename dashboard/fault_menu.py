"""What can be made to go wrong with an order from the page, and what then happens, in a sentence each.

The names are those of `--fail` (services/faults.py); several joined by commas act together, and a customer can withdraw.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from services.faults import check_faults, parse_share

#: No failure of a worker: the order is taken back as soon as it is placed.
CUSTOMER_WITHDRAWS = "customer:withdraws"


@dataclass(frozen=True, slots=True)
class FaultOption:
    """One thing that can go wrong. `what` says what then happens."""

    name: str
    title: str
    what: str


FAULT_MENU = (
    FaultOption(
        "inventory:out_of_stock",
        "out of stock",
        "Inventory refuses, so nothing was held and nothing has to be undone: the order is rejected at once.",
    ),
    FaultOption(
        "payment:declined",
        "payment declined",
        "The payment gateway says no, the stock that was reserved is released, and the order is rejected.",
    ),
    FaultOption(
        "payment:hang",
        "payment gateway hangs",
        "The gateway takes the money and never answers: payment asks again, loses patience after some 6 s, voids whatever "
        "may have been booked, and the order is rejected as payment_timeout.",
    ),
    FaultOption(
        "payment:drop",
        "connection to the gateway drops",
        "Every answer is lost on its way: whether money was taken is in doubt, so after its patience payment voids it "
        "and the order is rejected as payment_timeout.",
    ),
    FaultOption(
        "payment:pending",
        "payment pending",
        "The gateway says that it has not decided yet: the order waits, payment asks again, and the order is "
        "completed once it has settled.",
    ),
    FaultOption(
        "delivery:undeliverable",
        "nobody delivers there",
        "Delivery refuses at the pivot, so the payment is voided and the stock released, in this order, and the order "
        "is rejected.",
    ),
    FaultOption(
        "inventory:slow",
        "inventory is slow",
        "Inventory takes two seconds over this message and all that stand behind it wait too; then everything goes its way.",
    ),
    FaultOption(
        "payment:crash",
        "payment crashes while it handles the order",
        "The worker dies before it commits: the message goes back to its queue, a successor starts after two seconds "
        "and handles it again, and the order is completed with one payment.",
    ),
    FaultOption(
        "inventory:duplicate",
        "inventory's messages go out twice",
        "Whoever gets the second copy finds its id in the inbox and drops it: the order is completed with the effect of one.",
    ),
    FaultOption(
        "inventory:error",
        "inventory's handler fails at every attempt",
        "Five attempts, then the message is a dead letter; the order's deadline passes after 15 s, what was done is "
        "undone and the order is rejected.",
    ),
    FaultOption(
        "delivery:undeliverable,payment:void_error",
        "the payment cannot be voided",
        "The compensation itself fails: it is asked for again and again, and after 5 s the order says "
        "NEEDS_ATTENTION, for nobody may forget the money.",
    ),
    FaultOption(
        "payment:declined,inventory:undo_error",
        "the stock cannot be released",
        "The compensation's handler fails at each of its twelve attempts, which takes some 50 s: then its message is "
        "a dead letter and the order says NEEDS_ATTENTION.",
    ),
    FaultOption(
        CUSTOMER_WITHDRAWS,
        "the customer withdraws",
        "The order is taken back right after it was placed, before the pivot: what was done for it is undone, and it "
        "is rejected as withdrawn.",
    ),
)


def fault_shares(texts: Sequence[str]) -> dict[str, float]:
    """`payment:declined` -> 1, `payment:declined=30%` -> 0.3, for each failure. Raises services.faults.InvalidFault."""
    shares = dict(parse_share(text) if "=" in text else (text, 1.0) for text in texts)
    check_faults([part for name in shares if name != CUSTOMER_WITHDRAWS for part in name.split(",")])
    return shares
