"""Clock, id generator and random source of a worker, injected so that a whole system can run on virtual time from one seed.

The worker loop, the services and both modes use no other source. The drivers of real servers (`broker.rabbitmq`, `store.mongo`)
use the standard library's clock and random source directly: they take no part in a seeded run.
"""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import uuid_utils


def new_uuid7() -> str:
    """Return a UUIDv7: unique, and sortable by its creation time."""
    return str(uuid_utils.uuid7())


@dataclass(frozen=True, slots=True)
class Environment:
    """Clock, ids and randomness; the real ones by default. `now` gives seconds since the epoch; `rng` is used for jitter only."""

    now: Callable[[], float] = time.time
    new_id: Callable[[], str] = new_uuid7
    rng: random.Random = field(default_factory=random.Random)

    def backoff_s(self, attempt: int, *, first_s: float = 0.05, most_s: float = 2.0) -> float:
        """Return an exponential backoff with jitter: 50 to 100 % of `first_s` doubled `attempt` times, capped at `most_s`."""
        return self.rng.uniform(0.5, 1.0) * min(most_s, first_s * 2.0 ** min(attempt, 20))
