"""One attempt at a MongoDB transaction: the reads of `work`, the writes of its changes, and the commit.

Documents are written by `_id` alone. That is safe because the server aborts a snapshot transaction that writes a document which
was changed after the snapshot: so within a transaction **everything written must have been read in it**. `Transaction` ensures
it by reading what `work` did not. A first version is an insert, guarded by its unique `_id`. (A filter on {_id, version} would be
safe too, and cost 50 times as much on the server measured.) Documents that were read but not written are not guarded.

Measured (secantusd-rs synced on every commit, 2 cores, median of 40): reading 100 documents, writing them, 100 inbox keys and
100 outbox rows, and removing 100 others takes 10 ms (256 each: 22 ms; 1 each: 3 ms), of which 4.5 ms are CPU of this process.
Raw `insert` and `update` commands were about 7 % faster than `insert_many` and `bulk_write`, but leave it to the caller to split
what is too large and to find errors in a response that says ok. So the driver's methods are used.
"""

import asyncio
import random
from collections import defaultdict
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from typing import Generic

from pymongo.errors import PyMongoError

from store.document import Key, Record
from store.limits import check_records
from store.mongo.connection import DURABLE, SNAPSHOT, Connection, Session
from store.mongo.errors import ConnectionLost, DuplicateKey, MissingCollections, translate_errors
from store.mongo.rows import INBOX, OUTBOX, Row, as_outbox_row, as_record, by_collection, write_of
from store.protocol import (
    Changes,
    DataRefused,
    DuplicateInput,
    OutcomeUnknown,
    StoreError,
    StoreUnavailable,
    T,
    Work,
    WriteConflict,
)

#: Seconds of the longest pause before an unanswered commit is repeated.
COMMIT_PAUSE_S = 0.1


class Transaction(Generic[T]):
    """One attempt: the `Reader` for `work`, the writes of its changes, and whether the commit was requested."""

    def __init__(self, work: Work[T], connection: Connection) -> None:
        self._work, self._rows, self._known_collections = work, connection.rows, connection.known_collections
        self._session: Session | None = None
        self._commit_sent = False
        #: The version of every document read in this transaction; 0 for one that does not exist.
        self._versions: dict[Key, int] = {}

    async def run(self, session: Session) -> T:
        """Run the transaction from its start up to its commit. An error aborts it."""
        session.start_transaction(SNAPSHOT, DURABLE)
        self._session = session
        try:
            changes, result = await self._work(self)
            await self._write(changes)
        except BaseException:
            await session.abort_transaction()
            raise
        self._commit_sent = True
        return result

    def store_error(self, error: BaseException) -> StoreError:
        """The error to raise when the transaction ended with `error`: in doubt once the commit was requested, else definite."""
        if self._commit_sent:
            return OutcomeUnknown(f"the commit was requested and not answered: {error!r:.300}")
        return StoreUnavailable(f"the connection to the database was lost before the commit: {error!r:.300}")

    async def load(self, keys: Collection[Key]) -> dict[Key, Record]:
        ids = defaultdict(list)
        for collection, document_id in keys:
            ids[collection].append(document_id)
        found: dict[Key, Record] = {}
        with translate_errors(lost=ConnectionLost):
            for name, wanted in ids.items():
                # One more than can be found, so that the first batch is the only one.
                cursor = self._rows(name).find({"_id": {"$in": wanted}}, session=self._session, batch_size=len(wanted) + 1)
                records = [as_record(name, row) for row in await cursor.to_list(None)]
                found.update((record.key, record) for record in records)
        self._versions.update((key, found[key].version if key in found else 0) for key in keys)
        return found

    async def known_inbox_keys(self, inbox_keys: Collection[str]) -> set[str]:
        if not inbox_keys:
            return set()
        with translate_errors(lost=ConnectionLost):
            cursor = self._rows(INBOX).find(
                {"_id": {"$in": list(inbox_keys)}}, {"_id": 1}, session=self._session, batch_size=len(inbox_keys) + 1
            )
            return {row["_id"] for row in await cursor.to_list(None)}

    async def _write(self, changes: Changes) -> None:
        """Write everything, one command for each collection and kind of write. The inbox is first: a duplicate ends it."""
        check_records(changes.records)
        groups = by_collection(changes.records)
        if missing := groups.keys() - self._known_collections:
            raise MissingCollections(missing)
        try:
            at = datetime.now(UTC)
            await self._insert(INBOX, [{"_id": key, "at": at} for key in changes.inbox])
        except DuplicateKey as duplicate:
            raise DuplicateInput(str(duplicate)) from duplicate
        await self._check_versions(changes.records)
        with translate_errors(lost=ConnectionLost):
            for name, group in groups.items():
                writes = [write_of(record) for record in group]
                await self._rows(name).bulk_write(writes, ordered=False, session=self._session)
        try:
            await self._insert(OUTBOX, [as_outbox_row(row) for row in changes.outbox])
        except DuplicateKey as duplicate:
            raise DataRefused(str(duplicate)) from duplicate  # two messages must not share an id
        if changes.published:
            with translate_errors(lost=ConnectionLost):
                await self._rows(OUTBOX).delete_many({"_id": {"$in": list(changes.published)}}, session=self._session)

    async def _insert(self, name: str, rows: Sequence[Row]) -> None:
        if rows:
            with translate_errors(lost=ConnectionLost):
                await self._rows(name).insert_many(rows, ordered=False, session=self._session)

    async def _check_versions(self, records: Sequence[Record]) -> None:
        """Raise WriteConflict unless each record is the next version of what this transaction read (see the module's top)."""
        unread = [record.key for record in records if record.version > 1 and record.key not in self._versions]
        if unread:
            await self.load(unread)
        for record in records:
            if record.version != self._versions.get(record.key, 0) + 1:
                msg = f"{record.key} is not at version {record.version - 1}"
                raise WriteConflict(msg)


async def commit(session: Session) -> None:
    """Request the commit until there is an answer. The caller sets the time limit.

    This replaces the driver's `with_transaction`. motor's commits at the end of its own `async with`, before the loop that would
    repeat the commit (motor 3.7.1, core.py). It would also run `work` again after a commit that ended with NoSuchTransaction
    (251). That can be the answer to a *repeated* commit whose first attempt succeeded, so here it is in doubt like other errors.
    """
    while True:
        try:
            await session.commit_transaction()
        except PyMongoError as error:
            if not error.has_error_label("UnknownTransactionCommitResult"):
                raise
            await asyncio.sleep(random.uniform(0, COMMIT_PAUSE_S))
        else:
            return
