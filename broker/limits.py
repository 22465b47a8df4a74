"""Every bound of the worker loop."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Every bound of the loop. Times in seconds."""

    #: Inputs in one commit. Never cap it low: the fuller the batch, the cheaper a message.
    batch_max: int = 256
    #: Deliveries handed over and not yet settled; at least twice the batch, so that the next one fills while this one commits.
    prefetch: int = 512
    #: Calls to the outside at once.
    calls_max: int = 512
    #: Between two looks for waits that are over.
    timer_interval_s: float = 0.25
    #: Between two looks for messages still owed, and how old one must be before it is sent again.
    relay_interval_s: float = 1.0
    relay_after_s: float = 5.0
    #: How long `slow` takes.
    slow_s: float = 0.5
