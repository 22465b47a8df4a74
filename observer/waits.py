"""What the time between a message and its cause was spent on: a wait of the business, a retry, or somebody who was away.

Room: observer/. A guess from what is written on the messages; a wait shorter than WAIT_S that no rule names is just work.
"""

from collections.abc import Sequence
from dataclasses import replace

from observer.entry import Entry
from services.order.messages import OrderWithdrawn, WithdrawOrder
from services.payment.messages import PaymentAuthorized, PaymentDeclined, PaymentVoided
from services.vocabulary import Reason

#: Seconds from which on a pause is worth a word.
WAIT_S = 1.0
#: What only the payment gateway can end the waiting for.
_GATEWAYS_WORD = (PaymentAuthorized.type_name, PaymentDeclined.type_name, PaymentVoided.type_name)


def told(entry: Entry, cause: Entry | None, before: Sequence[Entry]) -> Entry:
    """The entry with its wait, after those `before` it."""
    wait = _wait(entry, cause, entry.since_cause_s or 0.0, before) if cause else None
    return replace(entry, wait=wait) if wait else entry


def _wait(entry: Entry, cause: Entry, pause_s: float, before: Sequence[Entry]) -> str | None:
    if entry.type == OrderWithdrawn.type_name:
        return _withdrawn(entry, cause, pause_s, [one for one in before if one.type == entry.type])
    return _work(entry, cause, pause_s)


def _work(entry: Entry, cause: Entry, pause_s: float) -> str | None:
    if cause.attempts > 1:
        return f"{pause_s:.1f} s, put aside {_times(cause.attempts - 1)} for a later attempt at {entry.sender}"
    if entry.facts.get("reason") == Reason.PAYMENT_TIMEOUT and entry.type == PaymentDeclined.type_name:
        return f"{pause_s:.1f} s for a final answer of the payment gateway that never came"
    if pause_s < WAIT_S:
        return None
    if entry.type in _GATEWAYS_WORD:
        return f"{pause_s:.1f} s for the payment gateway"
    return f"{pause_s:.1f} s until {entry.sender} reacted: down, held up or busy"


def _withdrawn(entry: Entry, cause: Entry, pause_s: float, said: Sequence[Entry]) -> str | None:
    """`said`: the withdrawals before it. By its deadline an order says it again, and its cause is whatever it took down last."""
    if said and (cause.type != WithdrawOrder.type_name or cause.number in {one.cause for one in said}):
        return f"{entry.at - said[-1].at:.1f} s until it was said again: the order had not ended"
    if entry.facts.get("reason") == Reason.DEADLINE:
        return f"{pause_s:.1f} s until the order's own deadline"
    return _work(entry, cause, pause_s)


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
