"""Chance by name: each draw depends on the seed and on what it is for, never on how many draws came before it.

So a fault can be dropped from a run and everything else stays as it was.
"""

import hashlib
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")

_SCALE = float(1 << 64)


class Dice:
    """Draws for one seed. A name is any sequence of words and numbers."""

    def __init__(self, seed: int, *about: object) -> None:
        self._prefix = f"{seed}:{':'.join(map(str, about))}:"

    def share(self, *name: object) -> float:
        """A number from 0 up to 1."""
        drawn = hashlib.blake2b((self._prefix + ":".join(map(str, name))).encode(), digest_size=8).digest()
        return int.from_bytes(drawn, "big") / _SCALE

    def between(self, low: float, high: float, *name: object) -> float:
        return low + (high - low) * self.share(*name)

    def number(self, below: int, *name: object) -> int:
        """An integer from 0 up to `below`."""
        return int(self.share(*name) * below)

    def one_of(self, choices: Sequence[T], *name: object) -> T:
        return choices[self.number(len(choices), *name)]
