"""The failures that the page offers, each with a title and what happens then.

The names are those of `--fail` (services/faults.py), and CUSTOMER_WITHDRAWS. Several names joined by commas act together. Times
are those of the in-memory demo.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from broker.loop.retry import COMPENSATION_ATTEMPTS, FORWARD_ATTEMPTS, RETRY_TOTAL_S
from dashboard.demo_timings import DEMO_LIMITS, DEMO_TIMEOUTS, RESTART_DELAY_S
from services.faults import check_faults, parse_share

#: No failure of a worker: the customer withdraws the order as soon as it is placed.
CUSTOMER_WITHDRAWS = "customer:withdraws"


@dataclass(frozen=True, slots=True)
class FaultOption:
    """One failure. `what`: sentences that say what happens then."""

    name: str
    title: str
    what: str


_PAYMENT = DEMO_TIMEOUTS.payment

FAULT_MENU = (
    FaultOption(
        "inventory:out_of_stock",
        "out of stock",
        "Inventory refuses the first step. There is nothing to compensate, and the order is rejected at once.",
    ),
    FaultOption(
        "payment:declined",
        "payment declined",
        "The payment gateway declines, the reserved stock is released, and the order is rejected.",
    ),
    FaultOption(
        "payment:hang",
        "payment gateway hangs",
        "The gateway books the payment but never responds. Payment polls it until the authorization timeout of "
        f"{_PAYMENT.authorize_timeout_s:g} s, then voids what may be booked, and the order is rejected as payment_timeout.",
    ),
    FaultOption(
        "payment:drop",
        "connection to the gateway drops",
        "Every response of the gateway is lost, so the payment is in doubt. After the authorization timeout of "
        f"{_PAYMENT.authorize_timeout_s:g} s payment voids it, and the order is rejected as payment_timeout.",
    ),
    FaultOption(
        "payment:pending",
        "payment pending",
        f"The gateway has not decided yet. Payment polls it every {_PAYMENT.poll_interval_s:g} s, and the order completes once "
        "the payment has settled.",
    ),
    FaultOption(
        "delivery:undeliverable",
        "undeliverable address",
        "Delivery refuses at the pivot. The payment is voided, then the stock is released, and the order is rejected.",
    ),
    FaultOption(
        "inventory:slow",
        "inventory is slow",
        f"Inventory takes {DEMO_LIMITS.slow_s:g} s for this message, and the messages behind it wait. Then the order completes.",
    ),
    FaultOption(
        "payment:crash",
        "payment crashes while it handles the order",
        "The worker crashes before its commit and the message returns to its queue. The worker starts again after "
        f"{RESTART_DELAY_S:g} s and handles the message, and the order completes with one payment.",
    ),
    FaultOption(
        "inventory:duplicate",
        "inventory's messages are sent twice",
        "The recipient finds the id of the second copy in its inbox and drops it: the order completes as if each message had "
        "been sent once.",
    ),
    FaultOption(
        "inventory:error",
        "inventory's handler fails at every attempt",
        f"After {FORWARD_ATTEMPTS} attempts the message is dead-lettered. The order's deadline of {DEMO_TIMEOUTS.deadline_s:g} s "
        "passes, what was done is compensated, and the order is rejected.",
    ),
    FaultOption(
        "delivery:undeliverable,payment:void_error",
        "the payment cannot be voided",
        "The compensation itself fails. Payment repeats the void indefinitely and escalates after "
        f"{_PAYMENT.escalate_after_s:g} s: the order needs attention.",
    ),
    FaultOption(
        "payment:declined,inventory:undo_error",
        "the stock cannot be released",
        f"The compensation's handler fails at each of {COMPENSATION_ATTEMPTS} attempts, with retry delays of up to "
        f"{RETRY_TOTAL_S:.0f} s in total. Then its message is dead-lettered and the order needs attention.",
    ),
    FaultOption(
        CUSTOMER_WITHDRAWS,
        "the customer withdraws",
        "The customer withdraws the order right after placing it, before the pivot. What was done is compensated, and the order "
        "is rejected as withdrawn.",
    ),
)


def fault_shares(texts: Sequence[str]) -> dict[str, float]:
    """`payment:declined` -> 1, `payment:declined=30%` -> 0.3, for each failure. Raises services.faults.InvalidFault."""
    shares = dict(parse_share(text) if "=" in text else (text, 1.0) for text in texts)
    check_faults([part for name in shares if name != CUSTOMER_WITHDRAWS for part in name.split(",")])
    return shares
