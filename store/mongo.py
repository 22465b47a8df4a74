"""The store on MongoDB, over motor. The only file of the project that imports motor, pymongo or bson.

Room: store/. A document is stored as {_id, version, **body}. Beside the services' collections there are `inbox` {_id, at} and
`outbox` {_id, written_at, payload}. One `transact` is one MongoDB transaction: reads of one snapshot, a commit that a majority
of the replica set has in its journal. The file reads from the top: the store, the transaction, what an error means.

Writing by `_id` alone is safe because a snapshot transaction that writes a document which somebody changed since the snapshot is
aborted by the server: so within a transaction **everything written must have been read in it**. `_Transaction` sees to that: it
reads what `work` did not. A first version is an insert, guarded by its unique `_id`. (A filter on {_id, version} would do too,
and cost 50 times as much on the server measured.) What was read and not written is not guarded.

Measured (secantusd-rs synced on every commit, 2 cores, median of 40): reading 100 documents, writing them, 100 inbox keys and
100 outbox rows, and removing 100 others takes 10 ms (256 each: 22 ms; 1 each: 3 ms), of which 4.5 ms are CPU of this process.
Raw `insert` and `update` commands were about 7 % faster than `insert_many` and `bulk_write`; they leave it to the caller to
split what is too large and to find errors in an answer that says ok, so the driver's own are used.
"""

import asyncio
import math
import random
import re
import secrets
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime
from typing import Any, Final, Generic

import structlog
from bson.errors import BSONError
from motor.motor_asyncio import AsyncIOMotorClient, AsyncIOMotorClientSession, AsyncIOMotorCollection, AsyncIOMotorDatabase
from pymongo import InsertOne, ReplaceOne
from pymongo.errors import (
    ConfigurationError,
    ConnectionFailure,
    DuplicateKeyError,
    InvalidName,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
    WaitQueueTimeoutError,
)
from pymongo.read_concern import ReadConcern
from pymongo.uri_parser import split_hosts
from pymongo.write_concern import WriteConcern

from store.document import Key, Record
from store.limits import RERUNS_MAX, check_records
from store.store import (
    Changes,
    DataRefused,
    DuplicateInput,
    NoPrimary,
    NoReplicaSet,
    OutboxRow,
    OutcomeUnknown,
    StoreError,
    StoreUnavailable,
    T,
    UnsafeStore,
    UserRefused,
    Work,
    WriteConflict,
)

log = structlog.get_logger()

INBOX, OUTBOX = "inbox", "outbox"
DAY_S = 24 * 3600
#: How long an inbox key is kept: longer than every retry and wait, with days for somebody to redrive dead letters.
INBOX_DAYS = 7.0

#: Durable: in the journals of a majority. Reads outside a transaction see only what is.
DURABLE: Final = WriteConcern(w="majority", j=True)
SNAPSHOT, MAJORITY = ReadConcern("snapshot"), ReadConcern("majority")

#: The longest pause before the first re-run after a write conflict. It doubles with each one; a random part of it is waited.
BACKOFF_S = 0.004
#: How often opening begins anew: a worker that starts ends the sessions of all (`free_what_the_dead_hold`), also those of another
#: that is just being opened, and only `transact` runs again by itself.
OPENINGS_MAX = 5
#: The longest pause before a commit without an answer is asked again.
COMMIT_PAUSE_S = 0.1

HOW_TO_START = "Start mongod with --replSet rs0 and run rs.initiate() once; one member is enough, a standalone server is not"
WHO_IS_PRIMARY = "Wait for the election if there is one, or run rs.initiate() once (`rs.status()` in mongosh shows the members)"
BY_THE_URL = "If there is only one, add directConnection=true to the URL; else make those names known here"

# The server's error codes (mongo/src/mongo/base/error_codes.yml).
DUPLICATE_KEY, COLLECTION_EXISTS, OTHER_OPTIONS = 11000, 48, 85
#: WriteConflict, SnapshotUnavailable, NoSuchTransaction: the transaction is aborted, another may succeed.
CONFLICTS: Final = frozenset({112, 246, 251})
#: BadValue, FailedToParse, Overflow, DollarPrefixedFieldName, EmptyFieldName, DottedFieldName, ImmutableField,
#: DocumentValidationFailure, BSONObjectTooLarge, KeyTooLong: the data is at fault and always will be.
REFUSALS: Final = frozenset({2, 9, 15, 52, 56, 57, 66, 121, 10334, 17280})
#: Interrupted: somebody ended the session that this was in.
INTERRUPTED: Final = 11601
#: Unauthorized, AuthenticationFailed.
UNWELCOME: Final = frozenset({13, 18})
#: What the driver raises for values that have no encoding; too deep a nesting is a RecursionError.
UNENCODABLE: Final = (BSONError, OverflowError, UnicodeEncodeError, RecursionError, InvalidName)

Row = dict[str, Any]
Rows = AsyncIOMotorCollection[Row]
Session = AsyncIOMotorClientSession


class MongoStore:
    """`store.store.Store` on one database of a replica set.

    `selection_s`: how long to look for a server. `call_s`: the limit of one call. `patience_s`: the limit of one attempt at a
    transaction, with the driver's retries of its commit; longer than an election takes (about 10 s). `inbox_days`: how long an
    inbox key is kept; it must outlive every redelivery, redriven dead letters included. Other keywords go to the client.
    """

    def __init__(
        self,
        url: str,
        database_name: str,
        *,
        selection_s: float = 5.0,
        call_s: float = 10.0,
        patience_s: float = 30.0,
        inbox_days: float = INBOX_DAYS,
        **client_options: Any,  # noqa: ANN401 - whatever the client takes
    ) -> None:
        self._url, self._database_name = url, database_name
        self._patience_s = patience_s
        self._inbox_s = int(inbox_days * DAY_S)
        # Not `timeoutMS`: under it the driver goes on looking for a server until the whole time of the call is over.
        looking = ("serverSelectionTimeoutMS", "connectTimeoutMS", "waitQueueTimeoutMS")
        limits = dict.fromkeys(looking, int(selection_s * 1000)) | {"socketTimeoutMS": int(call_s * 1000)}
        self._options = {**limits, **client_options}
        self._client: AsyncIOMotorClient[Row] | None = None
        self._collections: dict[str, Rows] = {}
        #: The collections that are known to exist. The others are created before a transaction writes to them.
        self._existing: set[str] = set()
        #: Ids of sessions whose transaction may be open at the server: it could not be told how it ended.
        self._abandoned: list[Mapping[str, Any]] = []

    # --- opening and closing ----------------------------------------------------------------------------------------------

    async def open(self, due_in: Collection[str]) -> None:
        """Connect, check what must not be assumed, create collections and indexes."""
        for _ in range(OPENINGS_MAX - 1):
            with suppress(_Interrupted):
                return await self._open(due_in)
        return await self._open(due_in)

    async def _open(self, due_in: Collection[str]) -> None:
        self.connect()
        self.check_durable()
        await self.check_replica_set()
        await self.check_transactions()
        with _meaning(lost=StoreUnavailable):
            for name in (INBOX, OUTBOX, *due_in):
                await self._create(name)
            await self._index(due_in)
        await self.check_inbox_key()

    def connect(self) -> None:
        """Make the client, which looks for the server by itself from now on. Raises UnsafeStore for a URL that makes no sense."""
        if self._client is None:
            try:
                self._client = AsyncIOMotorClient(self._url, **self._options)
            except (ConfigurationError, ValueError, TypeError) as error:
                msg = f"the store's URL or options cannot be used: {error}"
                raise UnsafeStore(msg) from error

    async def free_what_the_dead_hold(self) -> None:
        """Abort transactions that a killed client left open: the server would keep their documents from everybody for a minute.

        Only that client knew its session, so all sessions of this user are ended. Whoever is alive loses at most a transaction
        that is then run again. A server that does not allow it is left alone."""
        with _meaning(lost=StoreUnavailable):
            await self._kill("killAllSessions", [])

    async def _free_what_we_hold(self) -> None:
        """Abort our own transactions that a lost connection left open, for the same reason."""
        sessions, self._abandoned = self._abandoned, []
        if sessions:
            try:
                with _meaning(lost=_Lost):
                    await self._kill("killSessions", sessions)
            except StoreError:
                self._abandoned += sessions
                raise

    async def _kill(self, command: str, sessions: Sequence[Mapping[str, Any]]) -> None:
        try:
            await self._connection.admin.command(command, sessions)
        except OperationFailure as error:
            # A user of few rights may not end others' sessions; the server aborts what they hold when its own time is up.
            say = log.info if error.code in UNWELCOME else log.warning
            say("orphans_not_freed", error=str(error)[:200])

    async def close(self) -> None:
        client, self._client = self._client, None
        self._collections.clear()
        if client is not None:
            # In a thread, because the driver says goodbye to a server that may not answer.
            await asyncio.to_thread(client.close)

    @property
    def host(self) -> str:
        """Where the store is, without the user and password that its URL may have."""
        return self._url.partition("://")[2].partition("/")[0].partition("?")[0].rpartition("@")[2]

    # --- what must not be assumed (each alone after `connect`; `open` makes all of them) ------------------------------------

    def check_durable(self) -> None:
        """Raise UnsafeStore when the URL or the options ask for less than the promises need. Silence means the safe value."""
        concern = self._connection.write_concern.document
        if concern.get("w", "majority") != "majority" or not concern.get("j", True):
            msg = f"write concern {concern} is not durable: take w and journal out of the URL, or say w=majority&journal=true"
            raise UnsafeStore(msg)
        if not self._connection.delegate.options.retry_writes:
            raise UnsafeStore("retryWrites is off: take it out of the URL, a commit whose answer is lost must be asked again")

    async def check_replica_set(self) -> None:
        """See that the server belongs to a replica set and takes writes. Raises NoReplicaSet, NoPrimary, StoreUnavailable."""
        hello = await self._hello()
        if hello.get("isreplicaset") or ("setName" in hello and not hello.get("isWritablePrimary")):
            raise NoPrimary(f"the server at {self.host} is no primary. {WHO_IS_PRIMARY}")
        if "setName" not in hello and hello.get("msg") != "isdbgrid":
            raise NoReplicaSet(f"the database is a standalone server, which has no transactions. {HOW_TO_START}")

    async def check_user(self) -> None:
        """See that this user may read here. Raises UserRefused, StoreUnavailable."""
        with _meaning(lost=StoreUnavailable):
            await self._database.list_collection_names()

    async def clock_ahead_s(self, now: Callable[[], float]) -> float | None:
        """How far the clock `now` is ahead of the server's, in seconds (behind: negative), less what the way there may hide.

        None when the server does not say what time it is."""
        asked = now()
        hello = await self._hello()
        half_s = (now() - asked) / 2
        if "localTime" not in hello:
            return None
        off_s = asked + half_s - hello["localTime"].replace(tzinfo=UTC).timestamp()
        return math.copysign(max(0.0, abs(off_s) - half_s), off_s)

    async def _hello(self) -> Row:
        """What the server says of itself; it asks for no user. Raises NoPrimary when a server is there and none can be used."""
        with _meaning(lost=StoreUnavailable):
            try:
                return dict(await self._database.command("hello"))
            except ServerSelectionTimeoutError as error:
                if why := self._why_nobody():
                    raise NoPrimary(why) from error
                raise

    def _why_nobody(self) -> str | None:
        """Why no server can be used although one has answered; None when none has."""
        servers = self._connection.delegate.topology_description.server_descriptions()
        kinds = sorted({server.server_type_name for server in servers.values()} - {"Unknown"})
        if kinds:
            return f"the database at {self.host} has no primary ({', '.join(kinds)}). {WHO_IS_PRIMARY}"
        if self._url.startswith("mongodb://") and servers.keys() != set(split_hosts(self.host)):
            members = ", ".join(f"{host}:{port}" for host, port in servers)
            return (
                f"the replica set at {self.host} calls its members {members}, and they are not reached by that name. {BY_THE_URL}"
            )
        return None

    async def check_transactions(self) -> None:
        """Write in a transaction, abort it and see that nothing is there. Raises UnsafeStore, StoreUnavailable."""
        probe = {"_id": f"probe {secrets.token_hex(8)}", "written_at": 0.0, "payload": b""}
        with _meaning(lost=StoreUnavailable):
            await self._create(OUTBOX)
            for left in reversed(range(OPENINGS_MAX)):
                try:
                    async with self._session() as session:
                        session.start_transaction(SNAPSHOT, DURABLE)
                        await self._rows(OUTBOX).insert_one(probe, session=session)
                        await session.abort_transaction()
                    break
                except (OperationFailure, ConfigurationError) as error:
                    if isinstance(error, OperationFailure) and error.code in UNWELCOME:
                        raise
                    if not left:
                        raise UnsafeStore(f"the database refuses a transaction: {error}. {HOW_TO_START}") from error
            if (await self._rows(OUTBOX).delete_one({"_id": probe["_id"]})).deleted_count:
                raise UnsafeStore(f"the database kept what an aborted transaction wrote. {HOW_TO_START}")

    async def check_inbox_key(self) -> None:
        """Write one key twice and see the second refused: on this rests that an effect happens once. Raises UnsafeStore."""
        inbox, row = self._rows(INBOX), {"_id": f"probe {secrets.token_hex(8)}", "at": datetime.now(UTC)}
        with _meaning(lost=StoreUnavailable):
            try:
                for _ in range(2):
                    await inbox.insert_one(dict(row))
            except DuplicateKeyError:
                return
            finally:
                await inbox.delete_many({"_id": row["_id"]})
        msg = (
            f"the collection {INBOX} of {self._database_name} takes a key twice, so a message that comes again would act again. "
            "It must be a plain collection, and not sharded by anything but _id: drop it, a worker that starts makes it anew"
        )
        raise UnsafeStore(msg)

    async def _create(self, name: str) -> None:
        """Create a collection, outside of any transaction: inside one it would be a conflict for everybody else."""
        if name in self._existing:
            return
        try:
            await self._database.create_collection(name, check_exists=False)
        except OperationFailure as error:
            if error.code != COLLECTION_EXISTS:
                raise
        self._existing.add(name)

    async def _index(self, due_in: Collection[str]) -> None:
        for name in due_in:
            await self._rows(name).create_index("due_at", sparse=True)
        await self._rows(OUTBOX).create_index("written_at")
        try:
            await self._rows(INBOX).create_index("at", expireAfterSeconds=self._inbox_s)
        except OperationFailure as error:
            if error.code != OTHER_OPTIONS:
                raise
            index = {"keyPattern": {"at": 1}, "expireAfterSeconds": self._inbox_s}
            await self._database.command({"collMod": INBOX, "index": index})

    @property
    def _connection(self) -> "AsyncIOMotorClient[Row]":
        if self._client is None:
            raise StoreUnavailable("the store is not open")
        return self._client

    @property
    def _database(self) -> "AsyncIOMotorDatabase[Row]":
        return self._connection.get_database(self._database_name, read_concern=MAJORITY, write_concern=DURABLE)

    def _rows(self, name: str) -> "Rows":
        """A collection; made once, because the driver's objects cost more than a small call."""
        if name not in self._collections:
            self._collections[name] = self._database[name]
        return self._collections[name]

    # --- the transaction --------------------------------------------------------------------------------------------------

    async def transact(self, work: Work[T]) -> T:
        """As the protocol says. A conflict is run again after a short random pause, a lost connection once and at once."""
        for rerun in range(1 + RERUNS_MAX):
            attempt = _Transaction(work, self._rows, self._existing)
            try:
                await self._free_what_we_hold()
                return await self._attempt(attempt)
            except _Uncreated as uncreated:
                with _meaning(lost=StoreUnavailable):
                    for name in uncreated.names:
                        await self._create(name)
            except _Lost:
                if rerun > 0:
                    raise
            except WriteConflict:
                if rerun == RERUNS_MAX:
                    raise
                await asyncio.sleep(random.uniform(0, BACKOFF_S * 2**rerun))
        raise WriteConflict("interrupted each time")

    async def _attempt(self, attempt: "_Transaction[T]") -> T:
        """Run one transaction to its end.

        Until its commit is asked for, each failure is definite and was translated where it happened. From then on it is the
        driver's word against a lost answer: every error is in doubt.
        """
        patience = asyncio.timeout(self._patience_s)
        try:
            async with self._session() as session, patience:
                result = await attempt.within(session)
                await _commit(session)
                return result
        except PyMongoError as error:
            raise attempt.failure(error) from error
        except TimeoutError as error:
            if not patience.expired():
                raise  # somebody else's: `work` raised it
            raise attempt.failure(error) from error
        except asyncio.CancelledError as error:
            if not _is_foreign():
                raise
            raise attempt.failure(error) from error

    @asynccontextmanager
    async def _session(self) -> AsyncIterator[Session]:
        """A session of its own for one transaction (the driver keeps those of the server in a pool, so it costs no call)."""
        session = await self._connection.start_session()
        try:
            yield session
        except (WriteConflict, DuplicateInput, DataRefused, _Uncreated):
            raise  # the server has answered, and heard the abort
        except BaseException:
            self._abandoned.append(session.delegate.session_id)
            raise
        finally:
            # Still in a transaction: we were cancelled while a thread of the driver is at the commit. Leave both to end by
            # themselves; ending the session here would abort in the middle, and block the loop for it.
            if not session.delegate.in_transaction:
                session.delegate.end_session()

    # --- outside of a transaction -----------------------------------------------------------------------------------------

    async def due(self, collection: str, now: float, limit: int) -> list[Record]:
        with _meaning(lost=StoreUnavailable):
            cursor = self._rows(collection).find({"due_at": {"$lte": now}}).sort("due_at", 1).limit(limit)
            return [_record(collection, row) for row in await cursor.to_list(None)]

    async def owed(self, written_before: float, limit: int) -> list[OutboxRow]:
        with _meaning(lost=StoreUnavailable):
            cursor = self._rows(OUTBOX).find({"written_at": {"$lt": written_before}}).sort("written_at", 1).limit(limit)
            return [OutboxRow(row["_id"], row["written_at"], row["payload"]) for row in await cursor.to_list(None)]

    async def forget(self, sent: Collection[str]) -> None:
        if sent:
            with _meaning(lost=OutcomeUnknown):
                await self._rows(OUTBOX).delete_many({"_id": {"$in": list(sent)}})

    async def find(self, collection: str, where: Mapping[str, Any] | None = None, limit: int = 0) -> list[Record]:
        equal = {name: {"$eq": value} for name, value in (where or {}).items()}
        with _meaning(lost=StoreUnavailable):
            cursor = self._rows(collection).find(equal).sort("_id", -1).limit(limit)
            return [_record(collection, row) for row in await cursor.to_list(None)]

    async def put(self, records: Collection[Record]) -> None:
        check_records(list(records))
        with _meaning(lost=OutcomeUnknown):
            for name, group in _by_collection(records).items():
                await self._create(name)
                writes = [ReplaceOne({"_id": record.document_id}, _row(record), upsert=True) for record in group]
                await self._rows(name).bulk_write(writes, ordered=False)

    async def wipe(self) -> None:
        """Empty every collection. Not dropped: other workers' indexes live there, and they know their collections to exist."""
        with _meaning(lost=OutcomeUnknown):
            for name in await self._database.list_collection_names():
                if not name.startswith("system."):
                    await self._rows(name).delete_many({})


async def _commit(session: Session) -> None:
    """Ask for the commit until there is an answer. The caller limits how long.

    This is the driver's `with_transaction` written out, because motor's has none of it: it commits at the end of an `async with`
    of its own, before the loop that would repeat the commit (motor 3.7.1, core.py). And it would run `work` again after a
    commit that ended in NoSuchTransaction (251). That can be the answer to a *repeated* commit whose first one succeeded, so
    here it is an error like any other: in doubt.
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


class _Transaction(Generic[T]):
    """One attempt: the `Reader` that `work` is given, the writing of what it wants, and whether the commit was asked for."""

    def __init__(self, work: Work[T], rows: Callable[[str], "Rows"], existing: Collection[str]) -> None:
        self._work, self._rows, self._existing = work, rows, existing
        self._session: Session | None = None
        self._commit_asked = False
        #: The version of everything read here; 0 for what does not exist.
        self._versions: dict[Key, int] = {}

    async def within(self, session: Session) -> T:
        """Everything from the transaction's start up to its commit. What goes wrong in here aborts it."""
        session.start_transaction(SNAPSHOT, DURABLE)
        self._session = session
        try:
            changes, result = await self._work(self)
            await self._write(changes)
        except BaseException:
            await session.abort_transaction()
            raise
        self._commit_asked = True
        return result

    def failure(self, error: BaseException) -> StoreError:
        """What is known when the transaction ended in `error`."""
        if self._commit_asked:
            return OutcomeUnknown(f"the commit was asked for and not answered: {error!r:.300}")
        return StoreUnavailable(f"the database was lost before the commit: {error!r:.300}")

    async def load(self, keys: Collection[Key]) -> dict[Key, Record]:
        ids = defaultdict(list)
        for collection, document_id in keys:
            ids[collection].append(document_id)
        found: dict[Key, Record] = {}
        with _meaning(lost=_Lost):
            for name, wanted in ids.items():
                # One more than can come back, so that the first answer is the only one.
                cursor = self._rows(name).find({"_id": {"$in": wanted}}, session=self._session, batch_size=len(wanted) + 1)
                records = [_record(name, row) for row in await cursor.to_list(None)]
                found.update((record.key, record) for record in records)
        self._versions.update((key, found[key].version if key in found else 0) for key in keys)
        return found

    async def seen(self, inbox_keys: Collection[str]) -> set[str]:
        if not inbox_keys:
            return set()
        with _meaning(lost=_Lost):
            cursor = self._rows(INBOX).find(
                {"_id": {"$in": list(inbox_keys)}}, {"_id": 1}, session=self._session, batch_size=len(inbox_keys) + 1
            )
            return {row["_id"] for row in await cursor.to_list(None)}

    async def _write(self, changes: Changes) -> None:
        """Write everything, one command for each kind of write and collection. The inbox first: a duplicate ends it all."""
        check_records(changes.records)
        groups = _by_collection(changes.records)
        if uncreated := groups.keys() - set(self._existing):
            raise _Uncreated(uncreated)
        try:
            at = datetime.now(UTC)
            await self._insert(INBOX, [{"_id": key, "at": at} for key in changes.inbox])
        except _Duplicate as duplicate:
            raise DuplicateInput(str(duplicate)) from duplicate
        await self._check_versions(changes.records)
        with _meaning(lost=_Lost):
            for name, group in groups.items():
                writes = [_write_of(record) for record in group]
                await self._rows(name).bulk_write(writes, ordered=False, session=self._session)
        try:
            await self._insert(OUTBOX, [_outbox_row(row) for row in changes.outbox])
        except _Duplicate as duplicate:
            raise DataRefused(str(duplicate)) from duplicate  # two messages never share an id
        if changes.sent:
            with _meaning(lost=_Lost):
                await self._rows(OUTBOX).delete_many({"_id": {"$in": list(changes.sent)}}, session=self._session)

    async def _insert(self, name: str, rows: Sequence[Row]) -> None:
        if rows:
            with _meaning(lost=_Lost):
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


# --- documents as rows --------------------------------------------------------------------------------------------------------


def _row(record: Record) -> Row:
    return {"_id": record.document_id, "version": record.version, **record.body}


def _record(collection: str, row: Row) -> Record:
    return Record(collection, row.pop("_id"), row.pop("version"), row)


def _outbox_row(row: OutboxRow) -> Row:
    return {"_id": row.message_id, "written_at": row.written_at, "payload": row.payload}


def _write_of(record: Record) -> InsertOne[Row] | ReplaceOne[Row]:
    if record.version == 1:
        return InsertOne(_row(record))
    return ReplaceOne({"_id": record.document_id}, _row(record))


def _by_collection(records: Collection[Record]) -> dict[str, list[Record]]:
    groups = defaultdict(list)
    for record in records:
        groups[record.collection].append(record)
    return groups


# --- what an error means ------------------------------------------------------------------------------------------------------


class _Lost(StoreUnavailable):
    """The connection was lost inside a transaction, before its commit was asked for."""


class _Interrupted(StoreUnavailable):
    """Somebody ended this call at the server."""


class _Duplicate(WriteConflict):
    """A key that must be new was there. For a document it is a write conflict; inbox and outbox give it their own meaning."""


class _Uncreated(Exception):  # noqa: N818 - not an error: do this first
    """The transaction would write to collections that do not exist yet."""

    def __init__(self, names: Collection[str]) -> None:
        super().__init__(names)
        self.names = names


@contextmanager
def _meaning(lost: type[StoreError]) -> Iterator[None]:
    """Turn what the driver raises into what is known. `lost` is what a connection lost in the middle of a call means here."""
    try:
        yield
    except UNENCODABLE as error:
        msg = f"{type(error).__name__}: {error!s:.300}"
        raise DataRefused(msg) from error
    except (ServerSelectionTimeoutError, WaitQueueTimeoutError) as error:
        msg = f"no usable server: {_said(error)}"
        raise StoreUnavailable(msg) from error
    except ConnectionFailure as error:
        raise lost(_said(error)) from error
    except OperationFailure as error:
        raise _refusal(error) from error
    except PyMongoError as error:
        raise StoreUnavailable(_said(error)) from error
    except asyncio.CancelledError as error:
        if not _is_foreign():
            raise
        raise lost("the driver gave up although nobody cancelled this call") from error


def _said(error: PyMongoError) -> str:
    """What the driver says, without its timeouts and its picture of the servers."""
    return re.sub(r" \(configured timeouts:[^)]*\)", "", str(error)).partition(", Timeout: ")[0][:300]


def _refusal(error: OperationFailure) -> StoreError:
    """What it means that the server said no. Anything that is not known to be for ever is worth another try later."""
    details = error.details or {}
    codes = {error.code, *(write.get("code") for write in details.get("writeErrors", ()))}
    said = f"{error!s:.300}"
    if DUPLICATE_KEY in codes:
        return _Duplicate(said)
    if codes & CONFLICTS or error.has_error_label("TransientTransactionError"):
        return WriteConflict(said)
    if codes & REFUSALS:
        return DataRefused(said)
    if INTERRUPTED in codes:
        return _Interrupted(said)
    if codes & UNWELCOME:
        return UserRefused(f"{details.get('errmsg', said)}. Check the user, its password, its roles and authSource in the URL")
    return StoreUnavailable(said)


def _is_foreign() -> bool:
    """Whether a cancellation came from inside the driver: nobody asked this task to stop."""
    task = asyncio.current_task()
    return task is None or task.cancelling() == 0
