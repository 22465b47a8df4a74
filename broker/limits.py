"""Limits and intervals of the worker loop.

Retry budgets are in `broker.loop.retry`, the delays between attempts in `broker.topology`.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits and intervals of one worker. Times in seconds."""

    #: Maximum inputs in one commit. A low value costs throughput: the larger the batch, the cheaper a message.
    batch_max: int = 256
    #: Maximum unsettled deliveries; at least twice the batch, so that the next batch fills while this one commits.
    prefetch: int = 512
    #: Maximum concurrent external calls.
    calls_max: int = 512
    #: Interval between two queries for due timers.
    timer_interval_s: float = 0.25
    #: Interval between two queries for pending outbox rows, and the age at which a row is republished.
    relay_interval_s: float = 1.0
    relay_after_s: float = 5.0
    #: Pause of the injected fault `slow`.
    slow_s: float = 0.5
