"""An entry of an order's history: one message, with its place in the chain of causes."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Entry:
    """One message of an order.

    `number` counts from 1. `cause` is the number of another entry, `missing_cause` the id of a message that was not observed;
    both are None for a command of the HTTP API. `deed` is the command that the sender handled because of the cause, None where it
    handled none.

    `at` is in seconds since the epoch. `takers` are the workers that act on the message in this mode; empty for an event that
    triggers nothing. `attempts` beyond 1 are retries. `dead` is the reason if the message was dead-lettered. `wait` says what the
    time since the cause was spent on, if it was long or is a wait of the business."""

    number: int
    message_id: str
    type: str
    name: str
    command: bool
    rollback: bool
    sender: str
    takers: tuple[str, ...]
    deed: str | None
    at: float
    since_start_s: float
    cause: int | None
    since_cause_s: float | None
    missing_cause: str | None
    facts: Mapping[str, str]
    attempts: int
    dead: str | None
    wait: str | None
