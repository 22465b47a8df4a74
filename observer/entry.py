"""One message in an order's history, with its place in the chain of causes."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Entry:
    """`number` counts from 1; `cause` is the number of another entry, `missing_cause` the id of one that was never heard (both
    are None for what the door asks). `deed` is the command that the sender handled because of its cause, None where it only
    decided.

    `at` is in seconds since the epoch. `takers` are the workers that act on it in this mode; nobody for a fact that needs none.
    `attempts` beyond 1 are retries; `dead` is the reason if it became a dead letter. `wait` says what the time since the cause
    was spent on, if it was long or is a wait of the business."""

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
