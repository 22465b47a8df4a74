"""Where the books are kept: the port and its in-memory adapter. The durable one is in `sqlite.py`.

Storage knows payments by (book, key) and which failure acted on which key; it decides nothing. A book is a
namespace: one for each mode, so that one file keeps the books of both apart.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable
from typing import Protocol

from payment_gateway.rules import Decision, GatewayFault, PaymentRecord

#: Rules on one call, given what is known of its key. Called exactly once for each call, on the event loop.
Decide = Callable[[PaymentRecord | None], Decision]


class StorageFailed(Exception):  # noqa: N818 - says what happened
    """The books could not be written (disk full, say): nothing of this call was recorded, or it is not known to be."""


class Storage(Protocol):
    """Raises StorageFailed and nothing of a driver's own."""

    async def apply(self, book: str, key: str, decide: Decide) -> Decision:
        """Decide on what is known of the key and record what the ruling says, atomically; returns once that is durable."""

    async def find(self, book: str, key: str) -> PaymentRecord | None:
        """What is recorded under one key."""

    async def page(self, book: str, after: str, limit: int) -> list[tuple[str, PaymentRecord]]:
        """Up to `limit` payments whose keys come after `after` ("" is the beginning), in the order of their keys."""

    async def acted(self, book: str) -> dict[GatewayFault, list[str]]:
        """The keys on which each failure acted."""

    async def empty(self, book: str) -> None:
        """Forget everything in one book."""

    async def close(self) -> None:
        """Finish what was begun and let go of the file."""


class MemoryStorage:
    """Keeps the books in dicts, as long as the process lives."""

    def __init__(self) -> None:
        self._payments: defaultdict[str, dict[str, PaymentRecord]] = defaultdict(dict)
        self._acted: defaultdict[str, dict[GatewayFault, dict[str, None]]] = defaultdict(dict)  # dicts as ordered sets

    async def apply(self, book: str, key: str, decide: Decide) -> Decision:
        decision = decide(self._payments[book].get(key))
        if decision.record is not None:
            self._payments[book][key] = decision.record
        if decision.acted is not None:
            self._acted[book].setdefault(decision.acted, {})[key] = None
        return decision

    async def find(self, book: str, key: str) -> PaymentRecord | None:
        return self._payments.get(book, {}).get(key)

    async def page(self, book: str, after: str, limit: int) -> list[tuple[str, PaymentRecord]]:
        payments = self._payments.get(book, {})
        keys = sorted(payments)
        start = bisect_right(keys, after) if after else 0
        return [(key, payments[key]) for key in keys[start : start + limit]]

    async def acted(self, book: str) -> dict[GatewayFault, list[str]]:
        return {fault: list(keys) for fault, keys in self._acted.get(book, {}).items()}

    async def empty(self, book: str) -> None:
        self._payments.pop(book, None)
        self._acted.pop(book, None)

    async def close(self) -> None:
        """Nothing to let go of."""
