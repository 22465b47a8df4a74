"""Injected failures: which of those that somebody asked for with an order act here.

A failure is named `service:failure` and travels in the header `injected`. It is honoured only where faults are
enabled. Business failures (`out_of_stock`, `declined`, ...) are handed to the handler or the gateway; the ones below act on the
message itself, in any service.
"""

from enum import StrEnum


class MessageFault(StrEnum):
    """Failures that any worker can show, whatever its business."""

    SLOW = "slow"  # the worker takes a while over this message, and everything behind it waits
    CRASH = "crash"  # the worker dies at this message's first delivery, before it commits
    DUPLICATE = "duplicate"  # everything this service publishes for the order goes out twice
    LATE = "late"  # the forward step reaches its handler only after a while, others overtake it
    ERROR = "error"  # the handler of the forward step raises at every attempt
    UNDO_ERROR = "undo_error"  # the handler of what must not fail (a compensation) raises at every attempt


class InjectedError(Exception):
    """Raised in place of a handler, because somebody asked for `error` with this order."""


def injected_at(service: str, injected: str | None) -> str | None:
    """The failure asked for at `service`, the first one if several are named; None if there is none."""
    for fault in (injected or "").split(","):
        where, _, failure = fault.partition(":")
        if where == service:
            return failure
    return None
