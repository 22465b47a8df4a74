"""The root cause: the one message that an order's end (or its standstill) goes back to, and a sentence about it.

Pure.
"""

from collections.abc import Sequence

from broker.faults import injected_at
from observer.entry import Entry
from observer.message_flow import Picture
from services.message_types import CATALOGUE
from services.order.messages import OrderRejected, OrderWithdrawn
from services.vocabulary import BackwardEvent, Reason, StuckEvent

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


def root_cause(picture: Picture, entries: Sequence[Entry], state: str, reason: str | None, injected: str | None) -> Root:
    """Why the order ended as it did, or why it has not."""
    if state == "COMPLETED":
        return _completed(entries)
    if state == "REJECTED":
        return _rejected(picture, entries, reason, injected)
    return _not_ended(picture, entries, reason, injected)


def _completed(entries: Sequence[Entry]) -> Root:
    withdrawn = next((entry for entry in entries if entry.type == OrderWithdrawn.type_name), None)
    if withdrawn:
        whose = "its deadline" if withdrawn.facts.get("reason") == Reason.DEADLINE else "a withdrawal"
        return f"the delivery was scheduled before {whose} could bar it: past the pivot an order goes forward", withdrawn.number
    return "every step succeeded", None


def _rejected(picture: Picture, entries: Sequence[Entry], reason: str | None, injected: str | None) -> Root:
    said = [
        entry
        for entry in entries
        if issubclass(CATALOGUE[entry.type], BackwardEvent)
        and entry.type != OrderRejected.type_name
        and entry.facts.get("reason") == reason
    ]
    if not said:
        if reason == Reason.WITHDRAWN:
            return "its withdrawal came before the order itself", None
        return f"{reason}; whoever said so first was not heard", None
    first = said[0]
    if reason == Reason.DEADLINE:
        return _overdue(picture, entries, first, injected)
    if reason == Reason.WITHDRAWN:
        return MEANINGS[reason], first.number
    sentence = f"{first.sender}: {MEANINGS.get(str(reason), str(reason))}"
    return sentence + _as_asked(first.sender, injected), first.number


def _overdue(picture: Picture, entries: Sequence[Entry], withdrawn: Entry, injected: str | None) -> Root:
    """The deadline is only the last straw: the cause is whoever had not reacted by then."""
    because = {withdrawn.number}
    for entry in entries:
        if entry.cause in because:
            because.add(entry.number)
    before = [entry for entry in entries if entry.at <= withdrawn.at and entry.number not in because]
    reacted = {entry.cause for entry in before}
    for entry in reversed(before):
        if entry.number not in reacted and entry.takers and picture.follows.get(entry.type):
            who = entry.takers[0]
            deed = picture.deeds.get((who, entry.type))
            about = entry.name if deed in (None, entry.name) else f"{entry.name} with {deed}"
            sentence = f"{who} had not answered {about} when the order's own deadline passed"
            return sentence + _retried(entry) + _as_asked(who, injected), entry.number
    return "the order's own deadline passed", withdrawn.number


def _not_ended(picture: Picture, entries: Sequence[Entry], reason: str | None, injected: str | None) -> Root:
    """`reason` is that of the call for help that still counts, if any."""
    reacted = {entry.cause for entry in entries}
    for entry in reversed(entries):
        step, error = entry.facts.get("step"), entry.facts.get("error")
        if issubclass(CATALOGUE[entry.type], StuckEvent) and reason == f"{step}: {error}":
            return f"{entry.sender}: {step} has failed for good: {error}" + _as_asked(entry.sender, injected), entry.number
        if entry.dead and entry.number not in reacted:
            who = "+".join(entry.takers) or "somebody"
            return f"{entry.name} is a dead letter of {who}: {entry.dead}" + _as_asked(who, injected), entry.number
    for entry in reversed(entries):
        if entry.number not in reacted and entry.takers and picture.follows.get(entry.type):
            return f"{entry.takers[0]} has been told ({entry.name}) and has not been heard to react" + _retried(
                entry
            ), entry.number
    return "it is under way", None


def _retried(entry: Entry) -> str:
    return f", put aside {entry.attempts - 1} times so far" if entry.attempts > 1 else ""


def _as_asked(service: str, injected: str | None) -> str:
    """What an injected failure has to do with it."""
    failure = injected_at(service, injected)
    return f" (injected with the order: {service}:{failure})" if failure else ""
