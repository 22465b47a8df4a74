"""Storage of the books: the protocol and its in-memory implementation. The durable one is in `sqlite.py`.

A storage holds payments by (book, key) and which failure acted on which key; it makes no decisions. A book is a namespace: one
for each mode, so that one file can hold the books of both.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable
from typing import Protocol

from payment_gateway.rules import Decision, GatewayFault, PaymentRecord

#: Decides on one call, from what is stored under its key (None: nothing). Called once for each call, on the event loop.
Decide = Callable[[PaymentRecord | None], Decision]


class StorageFailed(Exception):  # noqa: N818 - says what happened
    """The books could not be read or written (a full disk, for example): this call may or may not have been recorded."""


class Storage(Protocol):
    """Where books are stored. Errors of a driver are raised as StorageFailed."""

    async def apply(self, book: str, key: str, decide: Decide) -> Decision:
        """Call `decide` with what is stored under the key and store its decision, atomically. Returns once that is durable."""

    async def find(self, book: str, key: str) -> PaymentRecord | None:
        """The payment under one key, None if there is none."""

    async def page(self, book: str, after: str, limit: int) -> list[tuple[str, PaymentRecord]]:
        """Up to `limit` payments whose keys come after `after` ("": from the beginning), sorted by key."""

    async def acted(self, book: str) -> dict[GatewayFault, list[str]]:
        """The keys on which each failure acted."""

    async def empty(self, book: str) -> None:
        """Delete everything in one book."""

    async def close(self) -> None:
        """Finish the writes that were begun and close the file."""


class MemoryStorage:
    """Books in dicts, for the lifetime of the process."""

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
        """Does nothing: there is no file."""
