"""The MongoDB store against a server that is away, unsafe, or does not answer a commit.

The rule under test: an error that says "nothing was written" must be true, and where that cannot be known, the store raises
OutcomeUnknown. The faults come from the server itself (its `failCommand`) and from an interceptor of the connection.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
from motor.motor_asyncio import AsyncIOMotorClientSession
from pymongo import MongoClient
from pymongo.errors import OperationFailure

from store.document import Record
from store.mongo.store import INBOX_DAYS, MongoStore
from store.protocol import Changes, OutboxRow, OutcomeUnknown, Reader, StoreError, StoreUnavailable, UnsafeStore, WriteConflict
from tests.support import prerequisites, servers
from tests.support.network.mongo_stub import NonUniqueCollection
from tests.support.network.tcp_interceptor import Fault, Interceptor, intercepting

pytestmark = pytest.mark.real

ORDERS, KEY = "orders", ("orders", "o1")
#: Error codes of an operation whose session was ended: MongoDB's two, and the one of the stand-in server.
INTERRUPTED, NO_SUCH_TRANSACTION, INTERNAL = 11601, 251, 1
Connect = Callable[..., Awaitable[MongoStore]]


@pytest.fixture
def database(mongo_url: str) -> Iterator[str]:
    """The name of this test's own database."""
    name = f"test_{uuid4().hex}"
    yield name
    servers.drop(mongo_url, name)


@pytest.fixture
async def line(mongo_url: str) -> AsyncIterator[Interceptor]:
    server = urlsplit(mongo_url)
    async with intercepting(server.hostname or "127.0.0.1", server.port or 27017) as line:
        yield line


@pytest.fixture
async def connect(mongo_url: str, database: str) -> AsyncIterator[Connect]:
    """Opens stores on this test's database, through another URL or with other options if given."""
    opened: list[MongoStore] = []
    sessions: list[Mapping[str, Any]] = []

    async def another(url: str = mongo_url, **options: Any) -> MongoStore:
        opened.append(MongoStore(url, database, **options))
        await opened[-1].open([ORDERS])
        record_sessions(opened[-1], sessions)
        return opened[-1]

    yield another
    for store in opened:
        await store.close()
    # A transaction whose commit never reached the server stays open for a minute, and dropping the database would wait for it.
    if sessions:
        servers.ask(mongo_url, {"killSessions": sessions})


def record_sessions(store: MongoStore, sessions: list[Mapping[str, Any]]) -> None:
    """Record the id of every session that the store starts from now on."""
    client = store.connection.client
    start_session = client.start_session

    async def recorded() -> AsyncIOMotorClientSession:
        session = await start_session()
        sessions.append(session.delegate.session_id)
        return session

    vars(client)["start_session"] = recorded


def through(line: Interceptor) -> str:
    return f"mongodb://127.0.0.1:{line.port}/?directConnection=true"


async def increment(reader: Reader) -> tuple[Changes, int]:
    """The work of all these tests: increment a count, once for the input "in1"."""
    found = (await reader.load([KEY])).get(KEY)
    count = (found.body["count"] if found else 0) + 1
    record = Record(*KEY, found.version + 1 if found else 1, {"count": count})
    return Changes(records=[record], inbox=["in1"], outbox=[OutboxRow("m1", 1.0, b"x")]), count


async def landed(store: MongoStore) -> int:
    """How often the effect of `increment` is stored: 0 or 1, all of it or nothing."""

    async def work(reader: Reader) -> tuple[Changes, tuple[int, int, int]]:
        record = (await reader.load([KEY])).get(KEY)
        inbox = await reader.known_inbox_keys(["in1"])
        return Changes(), (record.body["count"] if record else 0, len(inbox), len(await store.pending_outbox(9.0, 9)))

    count, inbox, outbox = await store.transact(work)
    assert count == inbox == outbox, "torn: documents, inbox and outbox do not agree"
    return count


async def ends(store: MongoStore) -> int | StoreError:
    """The result of `increment`, or the error that the store raises."""
    try:
        return await store.transact(increment)
    except StoreError as error:
        return error


# --- a server that is away ----------------------------------------------------------------------------------------------------


async def test_a_refused_connection_is_unavailable() -> None:
    store = MongoStore(f"mongodb://127.0.0.1:{servers.free_port()}/", "away", selection_s=0.2)
    with pytest.raises(StoreUnavailable):
        await store.open([])
    await store.close()


async def test_unreachable_servers_are_named_without_driver_details() -> None:
    one, other = servers.free_port(), servers.free_port()
    store = MongoStore(f"mongodb://127.0.0.1:{one},127.0.0.1:{other}/?replicaSet=rs0", "away", selection_s=0.2)
    with pytest.raises(StoreUnavailable) as caught:
        await store.open([])
    await store.close()
    text = str(caught.value)
    assert text.startswith("no usable server: ")
    assert f"127.0.0.1:{one}: " in text
    assert f"127.0.0.1:{other}: " in text
    assert not [word for word in ("configured timeouts", "Timeout", "Topology") if word in text]


async def test_every_call_reports_a_server_that_went_away(line: Interceptor, connect: Connect) -> None:
    store = await connect(through(line), selection_s=0.2)
    line.inject(Fault.CUT, b"", times=1_000_000)
    for call in (
        store.transact(increment),
        store.due(ORDERS, 1.0, 1),
        store.pending_outbox(1.0, 1),
        store.find(ORDERS),
        store.open([ORDERS]),
    ):
        with pytest.raises(StoreUnavailable):
            await call
    for write in (store.delete_published(["m1"]), store.put([Record(*KEY, 1, {})]), store.wipe()):
        with pytest.raises((StoreUnavailable, OutcomeUnknown)):
            await write


async def test_a_store_that_is_not_open_is_unavailable() -> None:
    with pytest.raises(StoreUnavailable, match="not open"):
        await MongoStore("mongodb://127.0.0.1/", "never").find(ORDERS)


async def test_a_connection_lost_once_before_the_commit_is_retried(line: Interceptor, connect: Connect) -> None:
    store = await connect(through(line))
    line.inject(Fault.CUT, b"insert", times=1)
    assert await store.transact(increment) == 1
    assert line.struck.is_set()
    assert await landed(store) == 1


async def test_a_connection_lost_before_each_commit_wrote_nothing(line: Interceptor, connect: Connect) -> None:
    store = await connect(through(line))
    line.inject(Fault.CUT, b"insert", times=1_000)
    with pytest.raises(StoreUnavailable):
        await store.transact(increment)
    assert await landed(await connect()) == 0


async def test_a_server_that_stalls_before_the_commit_wrote_nothing(line: Interceptor, connect: Connect) -> None:
    store = await connect(through(line), call_s=0.5, transaction_timeout_s=1.0)
    line.inject(Fault.STALL, b"insert", times=1_000)
    with pytest.raises(StoreUnavailable):
        await store.transact(increment)
    assert await landed(await connect()) == 0


# --- a server that is not safe ------------------------------------------------------------------------------------------------


async def test_a_standalone_server_is_refused_with_a_hint(standalone: str) -> None:
    store = MongoStore(standalone, "unsafe")
    with pytest.raises(UnsafeStore, match=r"standalone.*--replSet"):
        await store.open([])
    await store.close()


async def test_a_refused_user_gets_a_hint_to_check_it(guarded: str) -> None:
    for url in guarded, guarded.replace("//", "//unknown:wrong@"):
        store = MongoStore(url, "guarded")
        with pytest.raises(UnsafeStore, match="Check the user"):
            await store.open([])
        await store.close()


@pytest.mark.parametrize("option", ["w=1", "w=0", "journal=false", "retryWrites=false"])
async def test_an_option_that_is_not_durable_is_refused(option: str) -> None:
    store = MongoStore(f"mongodb://127.0.0.1:{servers.free_port()}/?{option}", "unsafe")
    with pytest.raises(UnsafeStore, match="out of the URL"):
        await store.open([])
    await store.close()


async def test_an_inbox_that_takes_a_key_twice_is_refused_with_a_hint(mongo_url: str, database: str) -> None:
    store = MongoStore(mongo_url, database)
    rows = store.connection.rows
    vars(store.connection)["rows"] = lambda name: NonUniqueCollection(rows(name)) if name == "inbox" else rows(name)
    with pytest.raises(UnsafeStore, match=r"inbox of .* takes a key twice.*drop it"):
        await store.open([ORDERS])
    await store.close()


async def test_the_inbox_check_leaves_no_key_behind(mongo_url: str, database: str, connect: Connect) -> None:
    store = await connect()
    await store.transact(increment)
    await store.open([ORDERS])
    with MongoClient[dict[str, Any]](mongo_url) as client:
        assert [row["_id"] for row in client[database]["inbox"].find()] == ["in1"]


@pytest.mark.parametrize("url", ["http://nowhere", "mongodb://", "mongodb://a:b@/"])
async def test_an_invalid_url_is_refused(url: str) -> None:
    with pytest.raises(UnsafeStore, match="cannot be used"):
        await MongoStore(url, "unsafe", selection_s=0.1).open([])


# --- opening ------------------------------------------------------------------------------------------------------------------


async def test_five_stores_can_open_a_new_database_at_once(connect: Connect) -> None:
    stores = await asyncio.gather(*(connect() for _ in range(5)))
    assert await landed(stores[0]) == 0


@pytest.mark.parametrize(
    ("command", "code"),
    [
        *((command, INTERRUPTED) for command in ("create", "insert", "createIndexes", "delete")),
        *(
            ("insert", code) for code in (NO_SUCH_TRANSACTION, INTERNAL)
        ),  # the insert that the preflight check makes in a transaction
    ],
)
async def test_a_store_opens_although_a_starting_worker_ends_all_sessions(
    connect: Connect, fail_command: Callable[..., None], command: str, code: int
) -> None:
    fail_command(command, 1, errorCode=code)
    assert await landed(await connect()) == 0


async def test_inbox_keys_expire_after_inbox_days_also_when_they_change(mongo_url: str, database: str, connect: Connect) -> None:
    await connect()
    assert indexes(mongo_url, database, "inbox")["at_1"]["expireAfterSeconds"] == INBOX_DAYS * 24 * 3600
    await connect(inbox_days=1.0)
    assert indexes(mongo_url, database, "inbox")["at_1"]["expireAfterSeconds"] == 24 * 3600


async def test_a_wipe_keeps_the_indexes(mongo_url: str, database: str, connect: Connect) -> None:
    store = await connect()
    await store.transact(increment)
    await store.wipe()
    assert {"at_1"} <= indexes(mongo_url, database, "inbox").keys()
    assert {"written_at_1"} <= indexes(mongo_url, database, "outbox").keys()
    assert indexes(mongo_url, database, ORDERS)["due_at_1"]["sparse"]


def indexes(url: str, database: str, collection: str) -> dict[str, Any]:
    with MongoClient[dict[str, Any]](url) as client:
        return dict(client[database][collection].index_information())


# --- a commit that is not answered --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("times", [1, 2, 1_000])
async def test_a_commit_whose_answer_is_lost_is_never_denied(line: Interceptor, connect: Connect, times: int) -> None:
    """The server commits, but its answer is lost. The store may find out by repeating the commit, or not."""
    store = await connect(through(line), call_s=0.5, transaction_timeout_s=1.0)
    line.inject(Fault.LOSE, b"commitTransaction", times)
    end = await ends(store)
    assert line.struck.is_set()
    assert end == 1 or isinstance(end, OutcomeUnknown)
    assert await landed(await connect()) == 1


@pytest.mark.parametrize("times", [1, 2, 1_000])
async def test_a_commit_whose_answer_is_lost_is_not_done_twice(line: Interceptor, connect: Connect, times: int) -> None:
    """There is no inbox key here that would catch a second run, so there must be none."""

    async def bare(reader: Reader) -> tuple[Changes, int]:
        changes, count = await increment(reader)
        return Changes(records=changes.records), count

    store = await connect(through(line), call_s=0.5, transaction_timeout_s=1.0)
    line.inject(Fault.LOSE, b"commitTransaction", times)
    with suppress(OutcomeUnknown):
        await store.transact(bare)
    assert line.struck.is_set()
    assert [record.body for record in await (await connect()).find(ORDERS)] == [{"count": 1}]


@pytest.mark.parametrize("labels", [[], ["TransientTransactionError"], ["UnknownTransactionCommitResult"]])
async def test_a_commit_that_succeeded_but_is_denied_is_not_done_twice(
    connect: Connect, monkeypatch: pytest.MonkeyPatch, labels: list[str]
) -> None:
    """A repeated commit may be answered "no such transaction" although the first one committed (with a label or without)."""
    commit = AsyncIOMotorClientSession.commit_transaction

    async def denied(session: AsyncIOMotorClientSession) -> None:
        await commit(session)
        monkeypatch.undo()
        raise OperationFailure("no such transaction", 251, {"errorLabels": labels})

    store = await connect()
    monkeypatch.setattr(AsyncIOMotorClientSession, "commit_transaction", denied)
    end = await ends(store)
    assert end == 1 if labels == ["UnknownTransactionCommitResult"] else isinstance(end, OutcomeUnknown)
    assert await landed(store) == 1


@pytest.mark.parametrize("fault", [Fault.CUT, Fault.STALL])
async def test_a_commit_that_never_reached_the_server_is_in_doubt(line: Interceptor, connect: Connect, fault: Fault) -> None:
    store = await connect(through(line), call_s=0.5, transaction_timeout_s=1.0)
    line.inject(fault, b"commitTransaction", times=1_000_000)
    end = await ends(store)
    assert line.struck.is_set()
    assert isinstance(end, OutcomeUnknown)
    assert await landed(await connect()) == 0


async def test_a_commit_that_never_reached_the_server_deletes_no_outbox_row(line: Interceptor, connect: Connect) -> None:
    async def with_outbox_row(_: Reader) -> tuple[Changes, None]:
        return Changes(outbox=[OutboxRow("m0", 1.0, b"x")]), None

    async def published(_: Reader) -> tuple[Changes, None]:
        return Changes(published=["m0"]), None

    store = await connect(through(line), call_s=0.5, transaction_timeout_s=1.0)
    await store.transact(with_outbox_row)
    line.inject(Fault.CUT, b"commitTransaction", times=1_000_000)
    with pytest.raises(OutcomeUnknown):
        await store.transact(published)
    assert [row.message_id for row in await store.pending_outbox(9.0, 9)] == ["m0"]


async def test_a_commit_that_reaches_the_server_the_second_time_succeeds(line: Interceptor, connect: Connect) -> None:
    store = await connect(through(line))
    line.inject(Fault.CUT, b"commitTransaction", times=1)
    assert await store.transact(increment) == 1
    assert line.struck.is_set()
    assert await landed(await connect()) == 1


async def test_a_lost_commit_does_not_block_the_next_transaction(line: Interceptor, connect: Connect) -> None:
    """The server does not know that its client has given up, and would keep its documents locked for a minute."""
    store = await connect(through(line), transaction_timeout_s=1.0)
    line.inject(Fault.CUT, b"commitTransaction", times=99)
    assert isinstance(await ends(store), OutcomeUnknown)
    line.times = 0
    assert not isinstance(await ends(store), WriteConflict)
    assert await landed(store) == 1, "by the first, whose last repetition reached the server after all, or by the second"


async def test_a_failed_abort_does_not_block_the_next_transaction(line: Interceptor, connect: Connect) -> None:
    store = await connect(through(line))
    line.inject(Fault.CUT, b"outbox")
    call = asyncio.create_task(ends(store))
    await line.struck.wait()
    line.inject(Fault.CUT, b"abortTransaction", times=99)
    assert await call == 1


async def test_an_unanswered_commit_is_repeated_until_its_time_limit(line: Interceptor, connect: Connect) -> None:
    """The driver repeats a commit once by itself; the store goes on for a server that is away longer."""
    store = await connect(through(line))
    line.inject(Fault.LOSE, b"commitTransaction", times=5)
    assert await store.transact(increment) == 1
    assert line.times == 0
    assert await landed(await connect()) == 1


async def test_a_call_cancelled_at_its_commit_ends_at_once(line: Interceptor, connect: Connect) -> None:
    loop, call_s = asyncio.get_running_loop(), 4.0
    store = await connect(through(line), call_s=call_s)
    line.inject(Fault.STALL, b"commitTransaction", times=1)
    task = asyncio.create_task(store.transact(increment))
    await asyncio.wait_for(line.struck.wait(), timeout=5.0)
    line.inject(Fault.STALL, b"", times=1_000)  # the server answers nothing any more
    cancelled_at = loop.time()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert loop.time() - cancelled_at < call_s / 2
    line.inject(Fault.STALL, b"", times=0)
    await (await connect()).transact(lambda reader: put(reader, "o2"))


async def put(_: Reader, document_id: str) -> tuple[Changes, None]:
    return Changes(records=[Record(ORDERS, document_id, 1, {})]), None


@pytest.fixture
def fail_command(mongo_url: str) -> Iterator[Callable[..., None]]:
    """Makes the server fail a command a number of times, until the end of the test at most (MongoDB's fail point)."""
    with MongoClient[dict[str, Any]](mongo_url) as client:

        def fail(command: str, times: int, **how: Any) -> None:
            mode = {"times": times} if times else "off"
            try:
                data = {"failCommands": [command], **how}
                client.admin.command({"configureFailPoint": "failCommand", "mode": mode, "data": data})
            except OperationFailure as error:
                prerequisites.FAIL_POINTS.missing(f"configureFailPoint, code {error.code}")

        yield fail
        fail("commitTransaction", 0)


@pytest.mark.parametrize("times", [1, 2, 5])
@pytest.mark.parametrize(
    "how",
    [
        {"closeConnection": True},
        {"errorCode": 251, "errorLabels": ["TransientTransactionError"]},
        {"errorCode": 251},
        {"errorCode": 50},
        {"errorCode": 112, "errorLabels": ["TransientTransactionError"]},
        {"errorCode": 10107, "errorLabels": ["RetryableWriteError"]},
        {"writeConcernError": {"code": 91, "errmsg": "shutting down"}, "errorLabels": ["RetryableWriteError"]},
        {"writeConcernError": {"code": 64, "errmsg": "waiting for replication timed out"}},
    ],
    ids=["connection closed", "251 transient", "251", "time over", "conflict", "not primary", "going down", "not replicated"],
)
async def test_every_failure_of_a_commit_is_success_or_in_doubt(
    connect: Connect, fail_command: Callable[..., None], how: dict[str, Any], times: int
) -> None:
    # After "not primary" the driver selects the server again only with the next heartbeat.
    store = await connect(transaction_timeout_s=5.0, heartbeatFrequencyMS=500)
    fail_command("commitTransaction", times, **how)
    end = await ends(store)
    fail_command("commitTransaction", 0)
    count = await landed(store)
    assert isinstance(end, OutcomeUnknown) or end == count == 1


async def test_a_commit_cancelled_by_the_driver_is_in_doubt(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    async def cancelled_by_driver(_: AsyncIOMotorClientSession) -> None:
        raise asyncio.CancelledError

    store = await connect()
    monkeypatch.setattr(AsyncIOMotorClientSession, "commit_transaction", cancelled_by_driver)
    with pytest.raises(OutcomeUnknown):
        await store.transact(increment)


async def test_a_read_cancelled_by_the_driver_wrote_nothing(connect: Connect) -> None:
    async def cancelled_by_driver(_: Reader) -> tuple[Changes, None]:
        raise asyncio.CancelledError

    with pytest.raises(StoreUnavailable):
        await (await connect()).transact(cancelled_by_driver)
