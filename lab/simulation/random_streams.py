"""Chance by name: each draw depends on the seed and on what it is for, never on how many draws came before it.

So a fault can be dropped from a run and everything else stays as it was.
"""

import hashlib
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")

_SCALE = float(1 << 64)


class RandomStreams:
    """Draws for one seed. A name is any sequence of words and numbers."""

    def __init__(self, seed: int, *scope: object) -> None:
        self._prefix = f"{seed}:{':'.join(map(str, scope))}:"

    def random(self, *name: object) -> float:
        """A number from 0 up to 1."""
        digest = hashlib.blake2b((self._prefix + ":".join(map(str, name))).encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big") / _SCALE

    def uniform(self, low: float, high: float, *name: object) -> float:
        return low + (high - low) * self.random(*name)

    def randrange(self, below: int, *name: object) -> int:
        """An integer from 0 up to `below`."""
        return int(self.random(*name) * below)

    def choice(self, choices: Sequence[T], *name: object) -> T:
        return choices[self.randrange(len(choices), *name)]
