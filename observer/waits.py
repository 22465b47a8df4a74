"""What the time between a message and its cause was spent on: a wait of the business, a retry, or somebody who was away.

Room: observer/. A guess from what is written on the messages; a wait shorter than WAIT_S that no rule names is just work.
"""

from dataclasses import replace

from observer.entry import Entry
from services.order.messages import OrderWithdrawn
from services.payment.messages import PaymentAuthorized, PaymentDeclined, PaymentVoided
from services.vocabulary import Reason

#: Seconds from which on a pause is worth a word.
WAIT_S = 1.0
#: What only the payment gateway can end the waiting for.
_GATEWAYS_WORD = (PaymentAuthorized.type_name, PaymentDeclined.type_name, PaymentVoided.type_name)


def told(entry: Entry, cause: Entry | None) -> Entry:
    """The entry with its wait."""
    wait = _wait(entry, cause, entry.since_cause_s or 0.0) if cause else None
    return replace(entry, wait=wait) if wait else entry


def _wait(entry: Entry, cause: Entry, pause_s: float) -> str | None:
    if entry.type == OrderWithdrawn.type_name and entry.facts.get("reason") == Reason.DEADLINE:
        return f"{pause_s:.1f} s until the order's own deadline"
    if cause.attempts > 1:
        return f"{pause_s:.1f} s, put aside {_times(cause.attempts - 1)} for a later attempt at {entry.sender}"
    if entry.facts.get("reason") == Reason.PAYMENT_TIMEOUT and entry.type == PaymentDeclined.type_name:
        return f"{pause_s:.1f} s for a final answer of the payment gateway that never came"
    if pause_s < WAIT_S:
        return None
    if entry.type in _GATEWAYS_WORD:
        return f"{pause_s:.1f} s for the payment gateway"
    return f"{pause_s:.1f} s until {entry.sender} reacted: down, held up or busy"


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
