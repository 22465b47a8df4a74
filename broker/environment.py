"""Where time, ids and chance come from. Injected everywhere, so that a whole system can run on virtual time from one seed.

Nothing else in the product asks the clock, makes an id or rolls dice.
"""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import uuid_utils


def new_uuid7() -> str:
    """A UUIDv7: unique, and sorted by the time it was made."""
    return str(uuid_utils.uuid7())


@dataclass(frozen=True, slots=True)
class Environment:
    """The real world by default. `now` gives seconds since the epoch; `rng` is used for jitter only."""

    now: Callable[[], float] = time.time
    new_id: Callable[[], str] = new_uuid7
    rng: random.Random = field(default_factory=random.Random)

    def backoff_s(self, attempt: int, *, first_s: float = 0.05, most_s: float = 2.0) -> float:
        """Exponential backoff with full jitter: somewhere up to `first_s` doubled `attempt` times, at most `most_s`."""
        return self.rng.uniform(0.5, 1.0) * min(most_s, first_s * 2.0 ** min(attempt, 20))
