"""Explanations of delays: what the time between a message and its cause was spent on.

A wait of the business, a retry, an injected failure, or a worker that was down or busy. An explanation is inferred from what the
messages say. A delay below NOTABLE_WAIT_S that no rule explains counts as work and gets no explanation.
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

#: Seconds from which on a delay is explained although no rule names its cause.
NOTABLE_WAIT_S = 1.0
#: Events that may have waited for the payment gateway.
_GATEWAY_EVENTS = (PaymentAuthorized.type_name, PaymentDeclined.type_name, PaymentVoided.type_name)
#: Injected failures that delay the gateway's answer.
_GATEWAY_DELAY_FAULTS = BUSINESS_FAULTS["payment"] - {"declined"}
#: Injected failures that delay a worker -> what the worker did.
_WORKER_DELAY_FAULTS: dict[str | None, str] = {MessageFault.CRASH: "crashed", MessageFault.SLOW: "was slow"}


def with_wait(entry: Entry, cause: Entry | None, before: Sequence[Entry], injected: str | None) -> Entry:
    """The entry with its `wait`. `before`: the entries that precede it. `injected`: the failures injected with the order."""
    if cause is None:
        return entry
    pause_s = entry.since_cause_s or 0.0
    wait = _withdrawal_wait(entry, cause, before) if entry.type == OrderWithdrawn.type_name else None
    return replace(entry, wait=wait or _wait_of(entry, cause, pause_s, injected))


def _wait_of(entry: Entry, cause: Entry, pause_s: float, injected: str | None) -> str | None:
    if cause.attempts > 1:
        return f"{pause_s:.1f} s for {_retries(cause.attempts - 1)} at {entry.sender}"
    if entry.facts.get("reason") == Reason.PAYMENT_TIMEOUT and entry.type == PaymentDeclined.type_name:
        return f"{pause_s:.1f} s for a final answer of the payment gateway, which did not come"
    if pause_s < NOTABLE_WAIT_S:
        return None
    failure = None if cause.rollback else injected_at(entry.sender, injected)  # these failures delay forward steps only
    return f"{pause_s:.1f} s{_cause_of_wait(entry, failure)}"


def _cause_of_wait(entry: Entry, failure: str | None) -> str:
    """What delayed the entry. `failure`: the one that was injected at its sender."""
    if issubclass(CATALOGUE[entry.type], StepFailed):
        return f" until {entry.sender} had exhausted its retry budget for {entry.facts.get('step')}"
    if failure in _WORKER_DELAY_FAULTS and failure not in BUSINESS_FAULTS.get(entry.sender, ()):
        return f": {entry.sender} {_WORKER_DELAY_FAULTS[failure]} (injected)"
    if entry.type in _GATEWAY_EVENTS:
        return (
            f" for the payment gateway (injected: {failure})"
            if failure in _GATEWAY_DELAY_FAULTS
            else " for payment or its gateway"
        )
    return f" until {entry.sender} reacted: it was down, blocked or busy"


def _withdrawal_wait(entry: Entry, cause: Entry, before: Sequence[Entry]) -> str | None:
    """The wait of an OrderWithdrawn that the order's deadline triggered.

    An overdue order publishes the event at its deadline and again later. The recorded cause is then the last message that the
    order handled, so the time since that cause explains nothing."""
    withdrawals = [one for one in before if one.type == entry.type]
    if withdrawals and (cause.type != WithdrawOrder.type_name or cause.number in {one.cause for one in withdrawals}):
        return f"{entry.at - withdrawals[-1].at:.1f} s until it was published again: the order had not ended"
    if entry.facts.get("reason") == Reason.DEADLINE:
        return f"{entry.since_start_s:.1f} s until the order's deadline"
    return None


def _retries(count: int) -> str:
    return "one retry" if count == 1 else f"{count} retries"
