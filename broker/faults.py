"""Injected faults: names, and which of those requested with an order apply to a service.

A fault is written `service:fault` and travels in the header `injected`. Only workers with faults enabled honour it. Business
faults (`out_of_stock`, `declined`, ...) are passed to the handler or the payment gateway; message faults, below, act on the
message itself, in any service.
"""

from enum import StrEnum


class MessageFault(StrEnum):
    """Faults that act on a message in any service."""

    SLOW = "slow"  # the worker pauses at this message, and everything behind it waits
    CRASH = "crash"  # the worker process is killed at the message's first delivery, before its commit
    DUPLICATE = "duplicate"  # everything that this service publishes for the order is published twice
    LATE = "late"  # the forward step is delayed, so that other messages overtake it
    ERROR = "error"  # the handler of the forward step raises at every attempt
    UNDO_ERROR = "undo_error"  # the handler of a compensation, or of a step after the pivot, raises at every attempt


class InjectedError(Exception):
    """Raised in place of a handler when the fault `error` or `undo_error` is injected."""


def injected_at(service: str, injected: str | None) -> str | None:
    """Return the first fault that `injected` names for `service`, or None."""
    for fault in (injected or "").split(","):
        where, _, failure = fault.partition(":")
        if where == service:
            return failure
    return None
