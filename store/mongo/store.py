"""The store protocol on MongoDB.

One `transact` is one MongoDB transaction (`transaction.py`): it reads one snapshot, and its commit is in the journals of a
majority of the replica set. Beside the services' collections a database has `inbox` and `outbox` (`rows.py`). Client and sessions
are in `connection.py`, the checks that `open` makes in `preflight.py`, the meaning of errors in `errors.py`.
"""

import asyncio
import random
from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import Any, Final

from pymongo import ReplaceOne
from pymongo.errors import OperationFailure, PyMongoError

from store.document import Record
from store.limits import CONFLICT_RETRIES_MAX, check_records
from store.mongo.connection import Connection
from store.mongo.errors import ConnectionLost, Interrupted, MissingCollections, is_driver_cancellation, translate_errors
from store.mongo.preflight import OPEN_ATTEMPTS_MAX, check_durable, check_inbox_key, check_replica_set, check_transactions
from store.mongo.rows import INBOX, OUTBOX, as_record, as_row, by_collection
from store.mongo.transaction import Transaction, commit
from store.protocol import OutboxRow, OutcomeUnknown, StoreUnavailable, T, Work, WriteConflict

DAY_S = 24 * 3600
#: Days that an inbox key is kept: longer than every retry and wait, with time left for an operator to redrive dead letters.
INBOX_DAYS = 7.0

#: Seconds of the longest pause before the first retry after a write conflict; doubled for each further one (full jitter).
BACKOFF_S = 0.004

INDEX_OPTIONS_CONFLICT: Final = 85


class MongoStore:
    """`store.protocol.Store` on one database of a replica set.

    `selection_s`: how long to look for a usable server. `call_s`: the limit of one call. `transaction_timeout_s`: the limit of
    one attempt at a transaction, repetitions of its commit included; longer than an election takes (about 10 s). `inbox_days`:
    how long an inbox key is kept; it must outlive every redelivery, redriven dead letters included. Other keywords go to the
    client.
    """

    def __init__(
        self,
        url: str,
        database_name: str,
        *,
        selection_s: float = 5.0,
        call_s: float = 10.0,
        transaction_timeout_s: float = 30.0,
        inbox_days: float = INBOX_DAYS,
        **client_options: Any,  # noqa: ANN401 - any option of the client
    ) -> None:
        #: Public for the checks in `preflight.py`, which may run before `open`.
        self.connection = Connection(url, database_name, selection_s=selection_s, call_s=call_s, **client_options)
        self._transaction_timeout_s = transaction_timeout_s
        self._inbox_s = int(inbox_days * DAY_S)

    async def open(self, timer_collections: Collection[str]) -> None:
        """Connect, run the preflight checks, create collections and indexes. Interrupted attempts are repeated."""
        for _ in range(OPEN_ATTEMPTS_MAX - 1):
            with suppress(Interrupted):
                return await self._open(timer_collections)
        return await self._open(timer_collections)

    async def _open(self, timer_collections: Collection[str]) -> None:
        self.connection.connect()
        check_durable(self.connection)
        await check_replica_set(self.connection)
        await check_transactions(self.connection)
        with translate_errors(lost=StoreUnavailable):
            for name in (INBOX, OUTBOX, *timer_collections):
                await self.connection.create(name)
            await self._create_indexes(timer_collections)
        await check_inbox_key(self.connection)

    async def _create_indexes(self, timer_collections: Collection[str]) -> None:
        for name in timer_collections:
            await self.connection.rows(name).create_index("due_at", sparse=True)
        await self.connection.rows(OUTBOX).create_index("written_at")
        try:
            await self.connection.rows(INBOX).create_index("at", expireAfterSeconds=self._inbox_s)
        except OperationFailure as error:
            if error.code != INDEX_OPTIONS_CONFLICT:
                raise
            index = {"keyPattern": {"at": 1}, "expireAfterSeconds": self._inbox_s}
            await self.connection.database.command({"collMod": INBOX, "index": index})

    async def abort_orphaned_transactions(self) -> None:
        """Abort transactions that a killed predecessor left open; see `Connection.abort_orphaned_transactions`."""
        await self.connection.abort_orphaned_transactions()

    async def close(self) -> None:
        await self.connection.close()

    # --- the transaction --------------------------------------------------------------------------------------------------

    async def transact(self, work: Work[T]) -> T:
        """As in `Store`. After a conflict `work` runs again after a short random pause; after a lost connection once, at once."""
        for rerun in range(1 + CONFLICT_RETRIES_MAX):
            attempt = Transaction(work, self.connection)
            try:
                await self.connection.abort_abandoned_transactions()
                return await self._attempt(attempt)
            except MissingCollections as missing:
                with translate_errors(lost=StoreUnavailable):
                    for name in missing.names:
                        await self.connection.create(name)
            except ConnectionLost:
                if rerun > 0:
                    raise
            except WriteConflict:
                if rerun == CONFLICT_RETRIES_MAX:
                    raise
                await asyncio.sleep(random.uniform(0, BACKOFF_S * 2**rerun))
        raise WriteConflict(f"interrupted in each of {1 + CONFLICT_RETRIES_MAX} attempts")

    async def _attempt(self, attempt: "Transaction[T]") -> T:
        """Run one transaction to its end.

        Until the commit is requested, every failure is definite and was translated where it happened. After that the server's
        answer may have been lost, so every error is in doubt.
        """
        deadline = asyncio.timeout(self._transaction_timeout_s)
        try:
            async with self.connection.session() as session, deadline:
                result = await attempt.run(session)
                await commit(session)
                return result
        except PyMongoError as error:
            raise attempt.store_error(error) from error
        except TimeoutError as error:
            if not deadline.expired():
                raise  # not this deadline: `work` raised it
            raise attempt.store_error(error) from error
        except asyncio.CancelledError as error:
            if not is_driver_cancellation():
                raise
            raise attempt.store_error(error) from error

    # --- outside of a transaction -----------------------------------------------------------------------------------------

    async def due(self, collection: str, now: float, limit: int) -> list[Record]:
        with translate_errors(lost=StoreUnavailable):
            cursor = self.connection.rows(collection).find({"due_at": {"$lte": now}}).sort("due_at", 1).limit(limit)
            return [as_record(collection, row) for row in await cursor.to_list(None)]

    async def pending_outbox(self, written_before: float, limit: int) -> list[OutboxRow]:
        with translate_errors(lost=StoreUnavailable):
            cursor = self.connection.rows(OUTBOX).find({"written_at": {"$lt": written_before}}).sort("written_at", 1).limit(limit)
            return [OutboxRow(row["_id"], row["written_at"], row["payload"]) for row in await cursor.to_list(None)]

    async def delete_published(self, published: Collection[str]) -> None:
        if published:
            with translate_errors(lost=OutcomeUnknown):
                await self.connection.rows(OUTBOX).delete_many({"_id": {"$in": list(published)}})

    async def find(self, collection: str, where: Mapping[str, Any] | None = None, limit: int = 0) -> list[Record]:
        equal = {name: {"$eq": value} for name, value in (where or {}).items()}
        with translate_errors(lost=StoreUnavailable):
            cursor = self.connection.rows(collection).find(equal).sort("_id", -1).limit(limit)
            return [as_record(collection, row) for row in await cursor.to_list(None)]

    async def put(self, records: Collection[Record]) -> None:
        check_records(list(records))
        with translate_errors(lost=OutcomeUnknown):
            for name, group in by_collection(records).items():
                await self.connection.create(name)
                writes = [ReplaceOne({"_id": record.document_id}, as_row(record), upsert=True) for record in group]
                await self.connection.rows(name).bulk_write(writes, ordered=False)

    async def wipe(self) -> None:
        """Empty every collection. They are not dropped, because running workers rely on collections and indexes that exist."""
        with translate_errors(lost=OutcomeUnknown):
            for name in await self.connection.database.list_collection_names():
                if not name.startswith("system."):
                    await self.connection.rows(name).delete_many({})
