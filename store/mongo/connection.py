"""The connection to one MongoDB database: its client, its collections, and the sessions that transactions run in."""

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

#: Written to the journals of a majority. Reads outside a transaction see only such data (MAJORITY).
DURABLE: Final = WriteConcern(w="majority", j=True)
SNAPSHOT, MAJORITY = ReadConcern("snapshot"), ReadConcern("majority")

COLLECTION_EXISTS: Final = 48

Rows = AsyncIOMotorCollection[Row]
Session = AsyncIOMotorClientSession


class Connection:
    """One database of a replica set. Creating it does not contact the server.

    `selection_s`: how long to look for a usable server. `call_s`: the limit of one call. Other keywords go to the client.
    """

    def __init__(
        self,
        url: str,
        database_name: str,
        *,
        selection_s: float,
        call_s: float,
        **client_options: Any,  # noqa: ANN401 - any option of the client
    ) -> None:
        self.url, self.database_name = url, database_name
        # Not `timeoutMS`: with it the driver would look for a server until the time limit of the whole call.
        selection_options = ("serverSelectionTimeoutMS", "connectTimeoutMS", "waitQueueTimeoutMS")
        limits = dict.fromkeys(selection_options, int(selection_s * 1000)) | {"socketTimeoutMS": int(call_s * 1000)}
        self._options = {**limits, **client_options}
        self._client: AsyncIOMotorClient[Row] | None = None
        self._collections: dict[str, Rows] = {}
        #: The collections that are known to exist. Others are created before a transaction writes to them.
        self.known_collections: set[str] = set()
        #: Ids of sessions whose transaction may still be open at the server, because neither commit nor abort was confirmed.
        self._abandoned: list[Mapping[str, Any]] = []

    def connect(self) -> None:
        """Create the client, which monitors the servers from now on. Raises UnsafeStore for an invalid URL or option."""
        if self._client is None:
            try:
                self._client = AsyncIOMotorClient(self.url, **self._options)
            except (ConfigurationError, ValueError, TypeError) as error:
                msg = f"the database URL or its options cannot be used: {error}"
                raise UnsafeStore(msg) from error

    async def close(self) -> None:
        client, self._client = self._client, None
        self._collections.clear()
        if client is not None:
            # In a thread, because the driver ends its sessions at the server, which may not answer.
            await asyncio.to_thread(client.close)

    @property
    def host(self) -> str:
        """Host and port of the URL, without its user and password."""
        return self.url.partition("://")[2].partition("/")[0].partition("?")[0].rpartition("@")[2]

    @property
    def client(self) -> "AsyncIOMotorClient[Row]":
        if self._client is None:
            raise StoreUnavailable("the store is not open: call open() first")
        return self._client

    @property
    def database(self) -> "AsyncIOMotorDatabase[Row]":
        return self.client.get_database(self.database_name, read_concern=MAJORITY, write_concern=DURABLE)

    def rows(self, name: str) -> "Rows":
        """A collection, cached because creating the driver's object costs more than a small call."""
        if name not in self._collections:
            self._collections[name] = self.database[name]
        return self._collections[name]

    async def create(self, name: str) -> None:
        """Create a collection outside of any transaction: inside one it would conflict with every other transaction."""
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
        """A session for one transaction. The driver pools server sessions, so this costs no call."""
        session = await self.client.start_session()
        try:
            yield session
        except (WriteConflict, DuplicateInput, DataRefused, MissingCollections):
            raise  # the server has answered and has aborted the transaction
        except BaseException:
            self._abandoned.append(session.delegate.session_id)
            raise
        finally:
            # If it is still in a transaction, this task was cancelled while a thread of the driver is committing. Both end by
            # themselves; ending the session here would abort the commit midway and block the loop meanwhile.
            if not session.delegate.in_transaction:
                session.delegate.end_session()

    async def abort_orphaned_transactions(self) -> None:
        """Abort transactions that a killed client left open: their documents would stay locked for a minute.

        The id of such a session was known to its client only, so this ends all sessions of the server. A live client loses at
        most a transaction, which it then runs again. If the server does not allow it, that is logged and nothing happens."""
        with translate_errors(lost=StoreUnavailable):
            await self._kill_sessions("killAllSessions", [])

    async def abort_abandoned_transactions(self) -> None:
        """Abort this store's own transactions that a lost connection left open, for the same reason."""
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
            # A user without that privilege may not end sessions; the server aborts their transactions after its own timeout.
            log_line = log.info if error.code in ACCESS_DENIED else log.warning
            log_line("orphaned_transactions_not_aborted", error=str(error)[:200])
