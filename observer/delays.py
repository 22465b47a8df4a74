"""What the time between a message and its cause was spent on: a wait of the business, a retry, or somebody who was away.

A guess from what is written on the messages; a wait shorter than WAIT_S that no rule names is just work.
"""

from collections.abc import Sequence
from dataclasses import replace

from broker.faults import MessageFault, injected_at
from observer.entry import Entry
from services.faults import BUSINESS_FAULTS
from services.message_types import CATALOGUE
from services.order.messages import OrderWithdrawn, WithdrawOrder
from services.payment.messages import PaymentAuthorized, PaymentDeclined, PaymentVoided
from services.vocabulary import Reason, StepFailed

#: Seconds from which on a pause is worth a word.
NOTABLE_WAIT_S = 1.0
#: What the payment gateway has a word in.
_GATEWAY_EVENTS = (PaymentAuthorized.type_name, PaymentDeclined.type_name, PaymentVoided.type_name)
#: The failures that make the gateway take long.
_GATEWAY_DELAY_FAULTS = BUSINESS_FAULTS["payment"] - {"declined"}
#: The failures that make a worker take long.
_WORKER_DELAY_FAULTS: dict[str | None, str] = {MessageFault.CRASH: "crash", MessageFault.SLOW: "be slow"}


def with_wait(entry: Entry, cause: Entry | None, before: Sequence[Entry], injected: str | None) -> Entry:
    """The entry with its wait, after those `before` it. `injected`: the failures that were asked for with it."""
    if cause is None:
        return entry
    pause_s = entry.since_cause_s or 0.0
    wait = _withdrawal_wait(entry, cause, before) if entry.type == OrderWithdrawn.type_name else None
    return replace(entry, wait=wait or _wait_of(entry, cause, pause_s, injected))


def _wait_of(entry: Entry, cause: Entry, pause_s: float, injected: str | None) -> str | None:
    if cause.attempts > 1:
        return f"{pause_s:.1f} s, put aside {_times(cause.attempts - 1)} for a later attempt at {entry.sender}"
    if entry.facts.get("reason") == Reason.PAYMENT_TIMEOUT and entry.type == PaymentDeclined.type_name:
        return f"{pause_s:.1f} s for a final answer of the payment gateway that never came"
    if pause_s < NOTABLE_WAIT_S:
        return None
    failure = None if cause.rollback else injected_at(entry.sender, injected)  # what makes slow hits forward steps only
    return f"{pause_s:.1f} s{_cause_of_wait(entry, failure)}"


def _cause_of_wait(entry: Entry, failure: str | None) -> str:
    """Who or what held it up. `failure` is the one that was injected at its sender."""
    if issubclass(CATALOGUE[entry.type], StepFailed):
        return f" until {entry.sender} called for help: it had tried {entry.facts.get('step')} in vain"
    if failure in _WORKER_DELAY_FAULTS and failure not in BUSINESS_FAULTS.get(entry.sender, ()):
        return f": {entry.sender} was told to {_WORKER_DELAY_FAULTS[failure]} (injected)"
    if entry.type in _GATEWAY_EVENTS:
        return (
            f" for the payment gateway (injected: {failure})"
            if failure in _GATEWAY_DELAY_FAULTS
            else " for payment or its gateway"
        )
    return f" until {entry.sender} reacted: down, held up or busy"


def _withdrawal_wait(entry: Entry, cause: Entry, before: Sequence[Entry]) -> str | None:
    """By its deadline an order says it, and later again; its cause is then whatever it took down last."""
    withdrawals = [one for one in before if one.type == entry.type]
    if withdrawals and (cause.type != WithdrawOrder.type_name or cause.number in {one.cause for one in withdrawals}):
        return f"{entry.at - withdrawals[-1].at:.1f} s until it was said again: the order had not ended"
    if entry.facts.get("reason") == Reason.DEADLINE:
        return f"{entry.since_start_s:.1f} s until the order's own deadline"
    return None


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
