"""Preflight checks of a MongoDB database: reachable, a replica set, open to this user, transactional and durable.

Each check tests one property and leaves no data behind. Opening a store runs the ones that the store's promises depend on;
`saga doctor` runs each by itself.
"""

import math
import secrets
from collections.abc import Callable
from datetime import UTC, datetime

from pymongo.errors import ConfigurationError, DuplicateKeyError, OperationFailure, ServerSelectionTimeoutError
from pymongo.uri_parser import split_hosts

from store.mongo.connection import DURABLE, SNAPSHOT, Connection
from store.mongo.errors import ACCESS_DENIED, translate_errors
from store.mongo.rows import INBOX, OUTBOX, Row
from store.protocol import NoPrimary, NoReplicaSet, StoreUnavailable, UnsafeStore

#: Attempts at opening a store: a worker that starts ends all sessions of the server (`abort_orphaned_transactions`), those of a
#: store that is being opened included, and `transact` alone repeats interrupted calls.
OPEN_ATTEMPTS_MAX = 5

REPLICA_SET_HINT = "Start mongod with --replSet rs0 and run rs.initiate() once; one member is enough, a standalone server is not"
PRIMARY_HINT = "Wait for the election to end, or run rs.initiate() once (`rs.status()` in mongosh shows the members)"
DIRECT_CONNECTION_HINT = "If there is only one, add directConnection=true to the URL; else make those names resolvable here"


def check_durable(connection: Connection) -> None:
    """Check that URL and options do not weaken durable commits; the defaults are safe. Raises UnsafeStore."""
    concern = connection.client.write_concern.document
    if concern.get("w", "majority") != "majority" or not concern.get("j", True):
        msg = f"write concern {concern} is not durable: take w and journal out of the URL, or set w=majority&journal=true"
        raise UnsafeStore(msg)
    if not connection.client.delegate.options.retry_writes:
        raise UnsafeStore("retryWrites is off: take it out of the URL, because a commit whose answer is lost must be repeated")


async def check_replica_set(connection: Connection) -> None:
    """Check that the server belongs to a replica set and accepts writes. Raises NoReplicaSet, NoPrimary, StoreUnavailable."""
    hello = await _hello(connection)
    if hello.get("isreplicaset") or ("setName" in hello and not hello.get("isWritablePrimary")):
        raise NoPrimary(f"the server at {connection.host} is no primary. {PRIMARY_HINT}")
    if "setName" not in hello and hello.get("msg") != "isdbgrid":
        raise NoReplicaSet(f"the database is a standalone server, which has no transactions. {REPLICA_SET_HINT}")


async def check_user(connection: Connection) -> None:
    """Check that the user may read this database. Raises UserRefused, StoreUnavailable."""
    with translate_errors(lost=StoreUnavailable):
        await connection.database.list_collection_names()


async def clock_ahead_s(connection: Connection, now: Callable[[], float]) -> float | None:
    """Seconds by which the clock `now` is ahead of the server's (negative: behind), less the uncertainty of half a round trip.

    None when the server does not report its time."""
    sent_at = now()
    hello = await _hello(connection)
    half_s = (now() - sent_at) / 2
    if "localTime" not in hello:
        return None
    off_s = sent_at + half_s - hello["localTime"].replace(tzinfo=UTC).timestamp()
    return math.copysign(max(0.0, abs(off_s) - half_s), off_s)


async def _hello(connection: Connection) -> Row:
    """The server's answer to `hello`, which needs no user. Raises NoPrimary when servers answer but none is usable."""
    with translate_errors(lost=StoreUnavailable):
        try:
            return dict(await connection.database.command("hello"))
        except ServerSelectionTimeoutError as error:
            if why := _unreachable_reason(connection):
                raise NoPrimary(why) from error
            raise


def _unreachable_reason(connection: Connection) -> str | None:
    """Why no server is usable although one has answered; None when none has."""
    servers = connection.client.delegate.topology_description.server_descriptions()
    kinds = sorted({server.server_type_name for server in servers.values()} - {"Unknown"})
    if kinds:
        return f"the database at {connection.host} has no primary ({', '.join(kinds)}). {PRIMARY_HINT}"
    if connection.url.startswith("mongodb://") and servers.keys() != set(split_hosts(connection.host)):
        members = ", ".join(f"{host}:{port}" for host, port in servers)
        mismatch = f"the replica set at {connection.host} calls its members {members}"
        return f"{mismatch}, and they cannot be reached by that name. {DIRECT_CONNECTION_HINT}"
    return None


async def check_transactions(connection: Connection) -> None:
    """Write in a transaction, abort it and check that nothing was kept. Raises UnsafeStore, StoreUnavailable."""
    probe = {"_id": f"probe {secrets.token_hex(8)}", "written_at": 0.0, "payload": b""}
    with translate_errors(lost=StoreUnavailable):
        await connection.create(OUTBOX)
        for attempts_left in reversed(range(OPEN_ATTEMPTS_MAX)):
            try:
                async with connection.session() as session:
                    session.start_transaction(SNAPSHOT, DURABLE)
                    await connection.rows(OUTBOX).insert_one(probe, session=session)
                    await session.abort_transaction()
                break
            except (OperationFailure, ConfigurationError) as error:
                if isinstance(error, OperationFailure) and error.code in ACCESS_DENIED:
                    raise
                if not attempts_left:
                    raise UnsafeStore(f"the database refuses a transaction: {error}. {REPLICA_SET_HINT}") from error
        if (await connection.rows(OUTBOX).delete_one({"_id": probe["_id"]})).deleted_count:
            raise UnsafeStore(f"the database kept what an aborted transaction wrote. {REPLICA_SET_HINT}")


async def check_inbox_key(connection: Connection) -> None:
    """Write one inbox key twice and check that the second write is refused. Raises UnsafeStore.

    That a message has its effect once depends on this."""
    inbox, row = connection.rows(INBOX), {"_id": f"probe {secrets.token_hex(8)}", "at": datetime.now(UTC)}
    with translate_errors(lost=StoreUnavailable):
        try:
            for _ in range(2):
                await inbox.insert_one(dict(row))
        except DuplicateKeyError:
            return
        finally:
            await inbox.delete_many({"_id": row["_id"]})
    msg = (
        f"the collection {INBOX} of {connection.database_name} takes a key twice, so a redelivered message would have its "
        "effect twice. It must be a plain collection, sharded by _id if at all: drop it, the next worker that starts creates it"
    )
    raise UnsafeStore(msg)
