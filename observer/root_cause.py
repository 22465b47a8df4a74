"""The root cause: the one message that an order's end, or its standstill, goes back to, and a sentence about it.

Pure functions.
"""

from collections.abc import Sequence

from broker.faults import injected_at
from observer.entry import Entry
from observer.message_flow import MessageFlow
from services.message_types import CATALOGUE
from services.order.messages import OrderRejected, OrderWithdrawn
from services.vocabulary import BackwardEvent, ObservedState, Reason, StepFailed

#: What each reason means. DEADLINE is absent: behind it stands the worker that had not reacted, which `_deadline_root` finds.
MEANINGS: dict[str, str] = {
    Reason.OUT_OF_STOCK: "less was in stock than was ordered",
    Reason.UNKNOWN_SKU: "the article does not exist",
    Reason.PAYMENT_DECLINED: "the payment gateway declined the payment",
    Reason.PAYMENT_TIMEOUT: "no final answer of the payment gateway within the authorization timeout, so the payment was voided",
    Reason.UNDELIVERABLE: "there is no delivery to this address",
    Reason.WITHDRAWN: "the customer withdrew the order before the pivot",
}

#: A sentence, and the number of the entry that it is about.
Root = tuple[str, int | None]


def root_cause(
    flow: MessageFlow, entries: Sequence[Entry], state: ObservedState, reason: str | None, injected: str | None
) -> Root:
    """Why the order ended as it did, or why it has not ended."""
    if state is ObservedState.COMPLETED:
        return _completed_root(entries)
    if state is ObservedState.REJECTED:
        return _rejected_root(flow, entries, reason, injected)
    return _open_root(flow, entries, reason, injected)


def _completed_root(entries: Sequence[Entry]) -> Root:
    withdrawn = next((entry for entry in entries if entry.type == OrderWithdrawn.type_name), None)
    if withdrawn:
        trigger = "its deadline" if withdrawn.facts.get("reason") == Reason.DEADLINE else "its withdrawal"
        return f"the delivery was scheduled before {trigger} took effect: after the pivot an order goes forward", withdrawn.number
    return "every step succeeded", None


def _rejected_root(flow: MessageFlow, entries: Sequence[Entry], reason: str | None, injected: str | None) -> Root:
    refusals = [
        entry
        for entry in entries
        if issubclass(CATALOGUE[entry.type], BackwardEvent)
        and entry.type != OrderRejected.type_name
        and entry.facts.get("reason") == reason
    ]
    if not refusals:
        if reason == Reason.WITHDRAWN:
            return "the withdrawal arrived before the order", None
        return f"{reason}; the message that stated this reason first was not observed", None
    first = refusals[0]
    if reason == Reason.DEADLINE:
        return _deadline_root(flow, entries, first, injected)
    if reason == Reason.WITHDRAWN:
        return MEANINGS[reason], first.number
    sentence = f"{first.sender}: {MEANINGS.get(str(reason), str(reason))}"
    return sentence + _injection_note(first.sender, injected), first.number


def _deadline_root(flow: MessageFlow, entries: Sequence[Entry], withdrawn: Entry, injected: str | None) -> Root:
    """The worker that had not reacted when the deadline passed: the deadline itself is only the consequence."""
    consequences = {withdrawn.number}
    for entry in entries:
        if entry.cause in consequences:
            consequences.add(entry.number)
    before = [entry for entry in entries if entry.at <= withdrawn.at and entry.number not in consequences]
    reacted = {entry.cause for entry in before}
    for entry in reversed(before):
        if entry.number not in reacted and entry.takers and flow.possible_effects.get(entry.type):
            worker = entry.takers[0]
            handled = flow.handled_commands.get((worker, entry.type))
            about = entry.name if handled in (None, entry.name) else f"{entry.name} with {handled}"
            sentence = f"{worker} had not answered {about} when the order's deadline passed"
            return sentence + _retry_note(entry) + _injection_note(worker, injected), entry.number
    return "the order's deadline passed", withdrawn.number


def _open_root(flow: MessageFlow, entries: Sequence[Entry], reason: str | None, injected: str | None) -> Root:
    """Why the order has not ended. `reason`: that of the escalation that is still open, if there is one."""
    reacted = {entry.cause for entry in entries}
    for entry in reversed(entries):
        step, error = entry.facts.get("step"), entry.facts.get("error")
        if issubclass(CATALOGUE[entry.type], StepFailed) and reason == f"{step}: {error}":
            sentence = f"{entry.sender}: {step} has exhausted its retry budget: {error}"
            return sentence + _injection_note(entry.sender, injected), entry.number
        if entry.dead and entry.number not in reacted:
            worker = "+".join(entry.takers) or "an unknown worker"
            return f"{entry.name} is a dead letter of {worker}: {entry.dead}" + _injection_note(worker, injected), entry.number
    for entry in reversed(entries):
        if entry.number not in reacted and entry.takers and flow.possible_effects.get(entry.type):
            return f"{entry.takers[0]} has not reacted to {entry.name} yet" + _retry_note(entry), entry.number
    return "the order is under way", None


def _retry_note(entry: Entry) -> str:
    if entry.attempts == 1:
        return ""
    return f", retried {'once' if entry.attempts == 2 else f'{entry.attempts - 1} times'} so far"


def _injection_note(service: str, injected: str | None) -> str:
    """The failure that was injected at `service`, as a remark in parentheses; empty if there was none."""
    failure = injected_at(service, injected)
    return f" (injected with the order: {service}:{failure})" if failure else ""
