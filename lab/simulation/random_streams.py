"""Named random draws: each depends on the seed and on the names of its stream and draw, never on the draws made before it.

A fault can therefore be removed from a run without changing any other draw.

The values in this file are frozen. They are hashed together with the seed, so another value changes what every seed means: the
seeds cited in docs/proof.md would show something else, and the digests in docs/proof/traces.json would no longer match.
"""

import hashlib
from collections.abc import Sequence
from enum import StrEnum
from typing import TypeVar

T = TypeVar("T")

_SCALE = float(1 << 64)


class Stream(StrEnum):
    """The streams of a seed. Frozen, see above."""

    ORDERS = "orders"
    FAULTS = "faults"  # followed by the mode
    CLUSTER = "world"
    PROCESS = "life"  # followed by the number of the start, counted from 1 over all workers


class Draw(StrEnum):
    """What is drawn from a stream; most are followed by a number. Frozen, see above."""

    # The orders of a plan.
    COUNT = "count"  # of the faults, too
    SCARCE_STOCK = "scarce"
    STOCK = "shelf"
    REPLICAS = "replicas"
    SKU = "wants"
    QUANTITY = "quantity"
    TIME = "at"  # of the faults, too
    BUSINESS_FAULT = "failure"
    HAS_BUSINESS_FAULT = "suffers"
    IS_WITHDRAWN = "withdraws"
    IS_WITHDRAWN_EARLY = "leaves early"
    WITHDRAWAL_TIME = "leaves"
    # The faults of a plan.
    FAULT_KIND = "kind"
    WORKER = "who"
    DURATION = "for"
    NTH = "nth"
    ARRIVAL_DELAY = "how late"
    MESSAGE = "which"
    CRASH_POINT = "point"
    CLOCK_SKEW = "skew"
    # The run.
    RESTART_DELAY = "restart"
    NEXT_MESSAGE = "next"
    TRANSIT_TIME = "travel"


class Operation(StrEnum):
    """The operations of a process whose latency is drawn, after the process's name and before a count. Frozen, see above."""

    CONNECT = "connect"
    CONSUME = "consume"
    PUBLISH = "publish"
    COMMIT = "commit"
    DATABASE = "database"
    GATEWAY_CALL = "call"
    GATEWAY_ANSWER = "answer"


class RandomStreams:
    """The draws of one stream of a seed. A draw's name is any sequence of words and numbers."""

    def __init__(self, seed: int, stream: Stream, *scope: object) -> None:
        self._prefix = f"{seed}:{':'.join(map(str, (stream, *scope)))}:"

    def random(self, *name: object) -> float:
        """A number from 0 up to, but not including, 1."""
        digest = hashlib.blake2b((self._prefix + ":".join(map(str, name))).encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big") / _SCALE

    def uniform(self, low: float, high: float, *name: object) -> float:
        return low + (high - low) * self.random(*name)

    def randrange(self, below: int, *name: object) -> int:
        """An integer from 0 up to, but not including, `below`."""
        return int(self.random(*name) * below)

    def choice(self, choices: Sequence[T], *name: object) -> T:
        return choices[self.randrange(len(choices), *name)]
