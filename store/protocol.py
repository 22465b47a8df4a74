"""The store protocol: documents, inbox and outbox in one commit, and the errors that every store raises.

Implemented by `store.memory` and `store.mongo.store`, which pass one contract suite. To a store an outbox row is opaque bytes
and an inbox key an opaque string.

A transaction has the shape read -> decide -> write. `transact(work)` gives `work` a `Reader` on one snapshot; `work` returns the
changes, and the store writes all of them or none. `work` may run more than once, because the store retries write conflicts, so
it must have no side effects: it decides, but does not publish, call or count.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from store.document import Key, Record

T = TypeVar("T")


class StoreError(Exception):
    """Base class of the store's errors. The subclass says what is known about the commit."""


class DuplicateInput(StoreError):  # noqa: N818 - names say what happened; every one is a StoreError
    """Definite: an inbox key of this commit exists already, so nothing was written. Look the keys up and drop those inputs."""


class WriteConflict(StoreError):  # noqa: N818
    """Definite: others wrote the same documents until the retries were exhausted; nothing was written. Run the batch again."""


class DataRefused(StoreError):  # noqa: N818
    """Definite and permanent: the database refuses this data (too large, not encodable); nothing was written."""


class OutcomeUnknown(StoreError):  # noqa: N818
    """In doubt: the commit may or may not have happened. Look the inbox keys up to find out; assume neither."""


class StoreUnavailable(StoreError):  # noqa: N818
    """Definite: the database could not be reached before the commit was requested; nothing was written. Wait and retry."""


class NoPrimary(StoreUnavailable):
    """A server answers, but there is no primary: an election is under way, or the replica set was never initiated."""


class UnsafeStore(StoreError):  # noqa: N818
    """The database lacks what the store's promises need (transactions, durability). The message says what to do."""


class NoReplicaSet(UnsafeStore):
    """The database is a standalone server."""


class UserRefused(UnsafeStore):
    """The database refuses this user, or this operation to this user."""


@dataclass(frozen=True, slots=True)
class OutboxRow:
    """One message that a commit leaves to be published. `payload` is opaque; `written_at` is in seconds since the epoch."""

    message_id: str
    written_at: float
    payload: bytes


@dataclass(frozen=True, slots=True)
class Changes:
    """Everything that one commit writes.

    `published`: the message ids of outbox rows of earlier commits that the broker has confirmed; this commit deletes them."""

    records: Sequence[Record] = ()
    inbox: Sequence[str] = ()
    outbox: Sequence[OutboxRow] = ()
    published: Sequence[str] = ()


class Reader(Protocol):
    """Reads of one consistent snapshot, for `work`."""

    async def load(self, keys: Collection[Key]) -> dict[Key, Record]:
        """The records that exist among `keys`, read with one query for each collection."""

    async def known_inbox_keys(self, inbox_keys: Collection[str]) -> set[str]:
        """The ones of `inbox_keys` that an earlier commit wrote."""


Work = Callable[[Reader], Awaitable[tuple[Changes, T]]]


class Store(Protocol):
    """One service's database. Its calls raise `StoreError`s; errors of the driver are translated."""

    async def open(self, timer_collections: Collection[str]) -> None:
        """Connect, create the indexes (`due_at` in each of `timer_collections`), check that commits are atomic and durable.

        Raises UnsafeStore or StoreUnavailable. May be called again."""

    async def close(self) -> None: ...

    async def transact(self, work: Work[T]) -> T:
        """Run `work` on a snapshot, write its changes atomically and durably, and return its result.

        A record whose version is not the stored version plus one is a write conflict. Conflicts are retried
        `store.limits.CONFLICT_RETRIES_MAX` times."""

    async def due(self, collection: str, now: float, limit: int) -> list[Record]:
        """Up to `limit` records with `due_at` <= now, oldest first."""

    async def pending_outbox(self, written_before: float, limit: int) -> list[OutboxRow]:
        """Up to `limit` outbox rows written before that time, oldest first."""

    async def delete_published(self, published: Collection[str]) -> None:
        """Delete outbox rows that the broker has confirmed. `Changes.published` does it in a commit; this is for idle times."""

    async def find(self, collection: str, where: Mapping[str, Any] | None = None, limit: int = 0) -> list[Record]:
        """Records whose body fields equal those in `where`, newest id first; limit 0 means all. For tools, not for handlers."""

    async def put(self, records: Collection[Record]) -> None:
        """Write records whatever version is stored. For setup and tools, not for the effects of handlers."""

    async def wipe(self) -> None:
        """Delete everything in this database."""
