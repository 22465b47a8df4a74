"""The connection to one MongoDB database: its client, its collections, and the sessions that transactions run in.

The only file of the project that imports motor.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import structlog
from motor.motor_asyncio import AsyncIOMotorClient, AsyncIOMotorClientSession, AsyncIOMotorCollection, AsyncIOMotorDatabase
from pymongo.errors import ConfigurationError, OperationFailure
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from store.mongo.errors import ACCESS_DENIED, ConnectionLost, MissingCollections, translate_errors
from store.mongo.rows import Row
from store.protocol import DataRefused, DuplicateInput, StoreError, StoreUnavailable, UnsafeStore, WriteConflict

log = structlog.get_logger()

#: Durable: in the journals of a majority. Reads outside a transaction see only what is.
DURABLE: Final = WriteConcern(w="majority", j=True)
SNAPSHOT, MAJORITY = ReadConcern("snapshot"), ReadConcern("majority")

COLLECTION_EXISTS: Final = 48

Rows = AsyncIOMotorCollection[Row]
Session = AsyncIOMotorClientSession


class Connection:
    """One database of a replica set. Nothing is asked of the server before a call needs it.

    `selection_s`: how long to look for a server. `call_s`: the limit of one call. Other keywords go to the client.
    """

    def __init__(
        self,
        url: str,
        database_name: str,
        *,
        selection_s: float,
        call_s: float,
        **client_options: Any,  # noqa: ANN401 - whatever the client takes
    ) -> None:
        self.url, self.database_name = url, database_name
        # Not `timeoutMS`: under it the driver goes on looking for a server until the whole time of the call is over.
        looking = ("serverSelectionTimeoutMS", "connectTimeoutMS", "waitQueueTimeoutMS")
        limits = dict.fromkeys(looking, int(selection_s * 1000)) | {"socketTimeoutMS": int(call_s * 1000)}
        self._options = {**limits, **client_options}
        self._client: AsyncIOMotorClient[Row] | None = None
        self._collections: dict[str, Rows] = {}
        #: The collections that are known to exist. The others are created before a transaction writes to them.
        self.known_collections: set[str] = set()
        #: Ids of sessions whose transaction may be open at the server: it could not be told how it ended.
        self._abandoned: list[Mapping[str, Any]] = []

    def connect(self) -> None:
        """Make the client, which looks for the server by itself from now on. Raises UnsafeStore for a URL that makes no sense."""
        if self._client is None:
            try:
                self._client = AsyncIOMotorClient(self.url, **self._options)
            except (ConfigurationError, ValueError, TypeError) as error:
                msg = f"the store's URL or options cannot be used: {error}"
                raise UnsafeStore(msg) from error

    async def close(self) -> None:
        client, self._client = self._client, None
        self._collections.clear()
        if client is not None:
            # In a thread, because the driver says goodbye to a server that may not answer.
            await asyncio.to_thread(client.close)

    @property
    def host(self) -> str:
        """Where the store is, without the user and password that its URL may have."""
        return self.url.partition("://")[2].partition("/")[0].partition("?")[0].rpartition("@")[2]

    @property
    def client(self) -> "AsyncIOMotorClient[Row]":
        if self._client is None:
            raise StoreUnavailable("the store is not open")
        return self._client

    @property
    def database(self) -> "AsyncIOMotorDatabase[Row]":
        return self.client.get_database(self.database_name, read_concern=MAJORITY, write_concern=DURABLE)

    def rows(self, name: str) -> "Rows":
        """A collection; made once, because the driver's objects cost more than a small call."""
        if name not in self._collections:
            self._collections[name] = self.database[name]
        return self._collections[name]

    async def create(self, name: str) -> None:
        """Create a collection, outside of any transaction: inside one it would be a conflict for everybody else."""
        if name in self.known_collections:
            return
        try:
            await self.database.create_collection(name, check_exists=False)
        except OperationFailure as error:
            if error.code != COLLECTION_EXISTS:
                raise
        self.known_collections.add(name)

    # --- sessions -----------------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Session]:
        """A session of its own for one transaction (the driver keeps those of the server in a pool, so it costs no call)."""
        session = await self.client.start_session()
        try:
            yield session
        except (WriteConflict, DuplicateInput, DataRefused, MissingCollections):
            raise  # the server has answered, and heard the abort
        except BaseException:
            self._abandoned.append(session.delegate.session_id)
            raise
        finally:
            # Still in a transaction: we were cancelled while a thread of the driver is at the commit. Leave both to end by
            # themselves; ending the session here would abort in the middle, and block the loop for it.
            if not session.delegate.in_transaction:
                session.delegate.end_session()

    async def abort_orphaned_transactions(self) -> None:
        """Abort transactions that a killed client left open: the server would keep their documents from everybody for a minute.

        Only that client knew its session, so all sessions of this user are ended. Whoever is alive loses at most a transaction
        that is then run again. A server that does not allow it is left alone."""
        with translate_errors(lost=StoreUnavailable):
            await self._kill_sessions("killAllSessions", [])

    async def abort_abandoned_transactions(self) -> None:
        """Abort our own transactions that a lost connection left open, for the same reason."""
        sessions, self._abandoned = self._abandoned, []
        if sessions:
            try:
                with translate_errors(lost=ConnectionLost):
                    await self._kill_sessions("killSessions", sessions)
            except StoreError:
                self._abandoned += sessions
                raise

    async def _kill_sessions(self, command: str, sessions: Sequence[Mapping[str, Any]]) -> None:
        try:
            await self.client.admin.command(command, sessions)
        except OperationFailure as error:
            # A user of few rights may not end others' sessions; the server aborts what they hold when its own time is up.
            log_line = log.info if error.code in ACCESS_DENIED else log.warning
            log_line("orphans_not_freed", error=str(error)[:200])
