"""The root cause: the one message that an order's end (or its standstill) goes back to, and a sentence about it.

Pure.
"""

from collections.abc import Sequence

from broker.faults import injected_at
from observer.entry import Entry
from observer.message_flow import MessageFlow
from services.message_types import CATALOGUE
from services.order.messages import OrderRejected, OrderWithdrawn
from services.vocabulary import BackwardEvent, Reason, StepFailed

#: What each reason means, about the service that said so.
MEANINGS: dict[str, str] = {
    Reason.OUT_OF_STOCK: "there was less on the shelf than was ordered",
    Reason.UNKNOWN_SKU: "there is no such article",
    Reason.PAYMENT_DECLINED: "the payment gateway said no",
    Reason.PAYMENT_TIMEOUT: "the payment gateway gave no final answer within payment's patience, so the payment was voided",
    Reason.UNDELIVERABLE: "nobody delivers there",
    Reason.WITHDRAWN: "the customer took the order back before the pivot",
}

#: A sentence, and the number of the entry that it is about.
Root = tuple[str, int | None]


def root_cause(flow: MessageFlow, entries: Sequence[Entry], state: str, reason: str | None, injected: str | None) -> Root:
    """Why the order ended as it did, or why it has not."""
    if state == "COMPLETED":
        return _completed_root(entries)
    if state == "REJECTED":
        return _rejected_root(flow, entries, reason, injected)
    return _open_root(flow, entries, reason, injected)


def _completed_root(entries: Sequence[Entry]) -> Root:
    withdrawn = next((entry for entry in entries if entry.type == OrderWithdrawn.type_name), None)
    if withdrawn:
        trigger = "its deadline" if withdrawn.facts.get("reason") == Reason.DEADLINE else "a withdrawal"
        return f"the delivery was scheduled before {trigger} could bar it: past the pivot an order goes forward", withdrawn.number
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
            return "its withdrawal came before the order itself", None
        return f"{reason}; whoever said so first was not heard", None
    first = refusals[0]
    if reason == Reason.DEADLINE:
        return _deadline_root(flow, entries, first, injected)
    if reason == Reason.WITHDRAWN:
        return MEANINGS[reason], first.number
    sentence = f"{first.sender}: {MEANINGS.get(str(reason), str(reason))}"
    return sentence + _injection_note(first.sender, injected), first.number


def _deadline_root(flow: MessageFlow, entries: Sequence[Entry], withdrawn: Entry, injected: str | None) -> Root:
    """The deadline is only the last straw: the cause is whoever had not reacted by then."""
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
            sentence = f"{worker} had not answered {about} when the order's own deadline passed"
            return sentence + _retry_note(entry) + _injection_note(worker, injected), entry.number
    return "the order's own deadline passed", withdrawn.number


def _open_root(flow: MessageFlow, entries: Sequence[Entry], reason: str | None, injected: str | None) -> Root:
    """`reason` is that of the call for help that still counts, if any."""
    reacted = {entry.cause for entry in entries}
    for entry in reversed(entries):
        step, error = entry.facts.get("step"), entry.facts.get("error")
        if issubclass(CATALOGUE[entry.type], StepFailed) and reason == f"{step}: {error}":
            return f"{entry.sender}: {step} has failed for good: {error}" + _injection_note(entry.sender, injected), entry.number
        if entry.dead and entry.number not in reacted:
            worker = "+".join(entry.takers) or "somebody"
            return f"{entry.name} is a dead letter of {worker}: {entry.dead}" + _injection_note(worker, injected), entry.number
    for entry in reversed(entries):
        if entry.number not in reacted and entry.takers and flow.possible_effects.get(entry.type):
            return f"{entry.takers[0]} has been told ({entry.name}) and has not been heard to react" + _retry_note(
                entry
            ), entry.number
    return "it is under way", None


def _retry_note(entry: Entry) -> str:
    return f", put aside {entry.attempts - 1} times so far" if entry.attempts > 1 else ""


def _injection_note(service: str, injected: str | None) -> str:
    """What an injected failure has to do with it."""
    failure = injected_at(service, injected)
    return f" (injected with the order: {service}:{failure})" if failure else ""
