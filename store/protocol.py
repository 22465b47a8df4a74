"""The store protocol: documents, inbox and outbox in one commit.

Two implementations pass one contract suite: `store.memory` and `store.mongo.store`. The room knows nothing of messages:
an outbox row is opaque bytes to it, an inbox key an opaque string.

The shape of a transaction is read -> decide -> write. `transact(work)` gives `work` a `Reader` on one snapshot; `work` returns
what to change, and the store writes all of it or nothing. `work` may run more than once (a write conflict is retried inside),
so it must be free of outside effects: decide, but do not publish, call or count.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from store.document import Key, Record

T = TypeVar("T")


class StoreError(Exception):
    """Something went wrong in the store; the subclass says what is known about the commit."""


class DuplicateInput(StoreError):  # noqa: N818 - names say what happened; every one is a StoreError
    """Definite: an inbox key of this commit was there already, so nothing was written. Look the keys up, drop what was seen."""


class WriteConflict(StoreError):  # noqa: N818
    """Definite: others kept writing the same documents until the retries ran out; nothing was written. Try the batch again."""


class DataRefused(StoreError):  # noqa: N818
    """Definite and permanent: the database does not take this data (too large, not encodable); nothing was written."""


class OutcomeUnknown(StoreError):  # noqa: N818
    """In doubt: the commit may or may not have happened. Look the inbox keys up, then decide; never conclude either."""


class StoreUnavailable(StoreError):  # noqa: N818
    """Definite: the database could not be reached before anything was asked to commit; nothing was written. Wait and retry."""


class NoPrimary(StoreUnavailable):
    """A database answers and nobody there takes writes now: an election is under way, or the replica set was never initiated."""


class UnsafeStore(StoreError):  # noqa: N818
    """The database cannot give what the promises need (no transactions, not durable). Its message says what to do."""


class NoReplicaSet(UnsafeStore):
    """The database is a standalone server."""


class UserRefused(UnsafeStore):
    """The database is there, and does not let this user in, or not do this."""


@dataclass(frozen=True, slots=True)
class OutboxRow:
    """One message that a commit owes to the broker: `payload` is opaque here, `written_at` in seconds since the epoch."""

    message_id: str
    written_at: float
    payload: bytes


@dataclass(frozen=True, slots=True)
class Changes:
    """Everything one commit writes. `published` names outbox rows of earlier commits that the broker has confirmed: removed here."""

    records: Sequence[Record] = ()
    inbox: Sequence[str] = ()
    outbox: Sequence[OutboxRow] = ()
    published: Sequence[str] = ()


class Reader(Protocol):
    """What `work` may read: one consistent snapshot."""

    async def load(self, keys: Collection[Key]) -> dict[Key, Record]:
        """The records that exist among `keys`, in one query for each collection."""

    async def known_inbox_keys(self, inbox_keys: Collection[str]) -> set[str]:
        """Those of `inbox_keys` that an earlier commit wrote."""


Work = Callable[[Reader], Awaitable[tuple[Changes, T]]]


class Store(Protocol):
    """One service's database. Every call raises a `StoreError` and nothing of the driver's own."""

    async def open(self, timer_collections: Collection[str]) -> None:
        """Connect, create indexes (`due_at` in the collections `timer_collections`) and check that commits are atomic and durable.

        Raises UnsafeStore or StoreUnavailable. May be called again."""

    async def close(self) -> None: ...

    async def transact(self, work: Work[T]) -> T:
        """Run `work` on a snapshot, write its changes atomically and durably, and give its result.

        A record whose version is not one more than what is stored is a write conflict, retried inside a few times."""

    async def due(self, collection: str, now: float, limit: int) -> list[Record]:
        """Up to `limit` records with `due_at` <= now, oldest first."""

    async def pending_outbox(self, written_before: float, limit: int) -> list[OutboxRow]:
        """Up to `limit` outbox rows written before that time, oldest first."""

    async def delete_published(self, published: Collection[str]) -> None:
        """Remove outbox rows that the broker has confirmed (a later commit does it in passing; this is for idle times)."""

    async def find(self, collection: str, where: Mapping[str, Any] | None = None, limit: int = 0) -> list[Record]:
        """Records whose body fields equal those in `where`, newest id first; limit 0 means all. For people, not for handlers."""

    async def put(self, records: Collection[Record]) -> None:
        """Write records outside any batch, last one wins. For set-up and instruments, never for a handler's effect."""

    async def wipe(self) -> None:
        """Remove everything in this database."""
