"""The store in memory, for the demo, the simulator and fast tests: the same promises as MongoDB, without a server.

A `MemoryDatabase` holds the data and outlives the stores that use it, as a server would. A `MemoryStore` is one worker's
connection to it. Bodies are stored as bytes, so they cannot be changed through an object that a caller still holds. Reads are of
one snapshot: each version of a record keeps the number of the commit that wrote it and, while an open snapshot may read it, the
version before.
"""

import asyncio
import heapq
import marshal
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from store.document import Key, Record
from store.limits import BODY_MAX_BYTES, CONFLICT_RETRIES_MAX, check_records
from store.protocol import Changes, DataRefused, DuplicateInput, OutboxRow, T, Work, WriteConflict

#: The range of the 64-bit integers of a database.
INT_MIN, INT_MAX = -(2**63), 2**63 - 1
#: Levels of nesting that a body may have (the documented limit of MongoDB).
DEPTH_MAX = 100


@dataclass(slots=True)
class _RecordVersion:
    """One version of one record: its packed body, the commit that wrote it, and the version before while a snapshot needs it."""

    version: int
    packed: bytes
    commit: int
    previous: "_RecordVersion | None"


@dataclass
class MemoryDatabase:
    """One service's data. Several stores may share it."""

    collections: dict[str, dict[str, _RecordVersion]] = field(default_factory=dict)
    #: Inbox key -> the commit that wrote it. Keys do not expire: a run in memory is shorter than their retention would be.
    inbox: dict[str, int] = field(default_factory=dict)
    outbox: dict[str, OutboxRow] = field(default_factory=dict)
    #: Collection -> document id -> `due_at`, for the documents that wait: the index for `due`.
    due_index: dict[str, dict[str, float]] = field(default_factory=dict)
    #: The number of commits so far.
    commits: int = 0
    #: Open snapshots, oldest first: a token for each reader -> the last commit that it sees.
    snapshots: dict[object, int] = field(default_factory=dict)

    def copy(self) -> "MemoryDatabase":
        """A copy of the records as they are now, to read while the original changes. Inbox and outbox are not copied."""
        return MemoryDatabase({name: dict(documents) for name, documents in self.collections.items()}, commits=self.commits)

    def read(self, key: Key, snapshot: int) -> Record | None:
        """The record as it was after the commit `snapshot`."""
        stored = self.collections.get(key[0], {}).get(key[1])
        while stored is not None and stored.commit > snapshot:
            stored = stored.previous
        return None if stored is None else Record(*key, stored.version, marshal.loads(stored.packed))  # noqa: S302 - our bytes

    def version(self, key: Key) -> int:
        """The latest version of a record; 0 when there is none."""
        stored = self.collections.get(key[0], {}).get(key[1])
        return stored.version if stored else 0

    def write(self, record: Record, packed: bytes) -> None:
        """Write one record as part of the commit numbered `commits`."""
        documents = self.collections.setdefault(record.collection, {})
        previous = documents.get(record.document_id)
        oldest = next(iter(self.snapshots.values()), self.commits)
        if previous is not None and previous.commit <= oldest:
            previous.previous = None  # every open snapshot sees this version or a later one
        keep = previous if self.snapshots else None
        documents[record.document_id] = _RecordVersion(record.version, packed, self.commits, keep)
        due_index = self.due_index.setdefault(record.collection, {})
        due_at = record.body.get("due_at")
        if due_at is None:
            due_index.pop(record.document_id, None)
        else:
            due_index[record.document_id] = due_at


class _Snapshot:
    """A `Reader` of the database as it was when the transaction began."""

    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database
        self._commit = database.commits

    async def load(self, keys: Collection[Key]) -> dict[Key, Record]:
        found = {key: self._database.read(key, self._commit) for key in keys}
        return {key: record for key, record in found.items() if record is not None}

    async def known_inbox_keys(self, inbox_keys: Collection[str]) -> set[str]:
        not_committed = self._commit + 1
        return {key for key in inbox_keys if self._database.inbox.get(key, not_committed) <= self._commit}


class MemoryStore:
    """`store.protocol.Store` on a MemoryDatabase. It yields to other tasks between reading and writing, so conflicts happen."""

    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database

    async def open(self, timer_collections: Collection[str]) -> None:
        """Does nothing: there is no connection, and `due` works on every collection."""

    async def close(self) -> None:
        """Does nothing: the data stays in the database."""

    async def transact(self, work: Work[T]) -> T:
        """As in `Store`. Others may commit between read and write; the first to commit wins, the others run again."""
        conflict: Key | None = None
        for _ in range(1 + CONFLICT_RETRIES_MAX):
            token = object()
            self._database.snapshots[token] = self._database.commits
            try:
                changes, result = await work(_Snapshot(self._database))
                await asyncio.sleep(0)
            finally:
                del self._database.snapshots[token]
            conflict = self._commit(changes)
            if conflict is None:
                return result
        msg = f"{conflict} was written by others in each of {1 + CONFLICT_RETRIES_MAX} attempts"
        raise WriteConflict(msg)

    def _commit(self, changes: Changes) -> Key | None:
        """Write all of `changes`, or nothing: then it raises, or returns the key that is in conflict."""
        database = self._database
        packed = _packed(changes.records)
        _check_names((*changes.inbox, *(row.message_id for row in changes.outbox)))
        for key in changes.inbox:
            if key in database.inbox:
                msg = f"the inbox key {key!r} exists already"
                raise DuplicateInput(msg)
        if len(set(changes.inbox)) != len(changes.inbox):
            raise DuplicateInput("one inbox key twice in one commit")
        for record in changes.records:
            if record.version != database.version(record.key) + 1:
                return record.key
        _check_outbox(changes, database)
        database.commits += 1
        for record, body in zip(changes.records, packed, strict=True):
            database.write(record, body)
        database.inbox.update(dict.fromkeys(changes.inbox, database.commits))
        database.outbox.update((row.message_id, row) for row in changes.outbox)
        for message_id in changes.published:
            database.outbox.pop(message_id, None)
        return None

    async def due(self, collection: str, now: float, limit: int) -> list[Record]:
        due_index = self._database.due_index.get(collection, {})
        overdue = ((due_at, document_id) for document_id, due_at in due_index.items() if due_at <= now)
        return self._records((collection, document_id) for _, document_id in heapq.nsmallest(limit, overdue))

    async def pending_outbox(self, written_before: float, limit: int) -> list[OutboxRow]:
        rows = (row for row in self._database.outbox.values() if row.written_at < written_before)
        return heapq.nsmallest(limit, rows, key=lambda row: row.written_at)

    async def delete_published(self, published: Collection[str]) -> None:
        for message_id in published:
            self._database.outbox.pop(message_id, None)

    async def find(self, collection: str, where: Mapping[str, Any] | None = None, limit: int = 0) -> list[Record]:
        newest = sorted(self._database.collections.get(collection, {}), reverse=True)
        if not where:
            newest = newest[: limit or None]
        records = self._records((collection, document_id) for document_id in newest)
        matching = [record for record in records if all(record.body.get(name) == value for name, value in (where or {}).items())]
        return matching[: limit or None]

    async def put(self, records: Collection[Record]) -> None:
        packed = _packed(records)
        self._database.commits += 1
        for record, body in zip(records, packed, strict=True):
            self._database.write(record, body)

    async def wipe(self) -> None:
        database = self._database
        for table in (database.collections, database.inbox, database.outbox, database.due_index):
            table.clear()

    def _records(self, keys: Iterable[Key]) -> list[Record]:
        """The records of `keys` as they are now."""
        found = (self._database.read(key, self._database.commits) for key in keys)
        return [record for record in found if record is not None]


def _packed(records: Collection[Record]) -> list[bytes]:
    """The bodies of `records` as bytes, in order. Raises DataRefused for what a database would refuse."""
    check_records(list(records))
    packed = []
    for record in records:
        _check_names((record.document_id,))
        body = marshal.dumps(_plain(record.body))
        if len(body) > BODY_MAX_BYTES:
            msg = f"{record.collection} {record.document_id} has {len(body)} bytes; a document has at most {BODY_MAX_BYTES}"
            raise DataRefused(msg)
        packed.append(body)
    return packed


def _check_names(names: Iterable[str]) -> None:
    """Raise DataRefused for ids that UTF-8 cannot encode."""
    for name in names:
        if not name.isascii():
            _plain(name)


def _check_outbox(changes: Changes, database: MemoryDatabase) -> None:
    """Raise DataRefused for an outbox row whose message id exists already: two messages must not share one."""
    new = {row.message_id for row in changes.outbox}
    if len(new) != len(changes.outbox) or not new.isdisjoint(database.outbox):
        raise DataRefused("an outbox row with this message id exists already")


def _plain(value: Any, depth: int = 0) -> Any:  # noqa: ANN401 - any JSON-like value
    """A copy of a JSON-like value in plain types. Raises DataRefused for what a database cannot store."""
    kind = type(value)
    if kind is str:
        if not value.isascii():
            _check_text(value)
        return value
    if kind is int:
        if not INT_MIN <= value <= INT_MAX:
            raise DataRefused("an integer that does not fit into 64 bits")
        return value
    if value is None or kind is bool or kind is float:
        return value
    if depth > DEPTH_MAX:
        msg = f"nested deeper than {DEPTH_MAX} levels"
        raise DataRefused(msg)
    if kind is dict or isinstance(value, Mapping):
        return {_field(name): _plain(item, depth + 1) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, depth + 1) for item in value]
    msg = f"a {kind.__name__} is not a JSON-like value"
    raise DataRefused(msg)


def _field(name: Any) -> str:  # noqa: ANN401 - a key of a mapping may be anything
    if type(name) is not str or "\0" in name:
        msg = f"{name!r} is not a valid field name"
        raise DataRefused(msg)
    if not name.isascii():
        _check_text(name)
    return name


def _check_text(text: str) -> None:
    """Raise DataRefused for text with lone surrogates, which UTF-8 cannot encode."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        msg = f"text that UTF-8 cannot encode: {error.reason}"
        raise DataRefused(msg) from error
