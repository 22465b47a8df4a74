"""The contract of every store, in memory and on a real server that speaks MongoDB's protocol.

Each test has its own database. Each call of `connect` opens another store on it, as two workers of one service would have. The
faults of a real server are in tests/store/mongo/test_store.py.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from typing import Any
from uuid import uuid4

import pytest

from store.document import Key, Record
from store.limits import CONFLICT_RETRIES_MAX
from store.memory import MemoryDatabase, MemoryStore
from store.mongo.store import MongoStore
from store.protocol import Changes, DataRefused, DuplicateInput, OutboxRow, Reader, Store, WriteConflict
from tests.support import servers

Connect = Callable[[], Awaitable[Store]]
ORDERS, STOCK = "orders", "stock"


@pytest.fixture(params=["memory", pytest.param("real", marks=pytest.mark.real)])
def make(request: pytest.FixtureRequest) -> Iterator[Callable[[], Store]]:
    """Makes stores on this test's own database."""
    if request.param == "memory":
        database = MemoryDatabase()
        yield lambda: MemoryStore(database)
    else:
        url, name = request.getfixturevalue("mongo_url"), f"test_{uuid4().hex}"
        yield lambda: MongoStore(url, name)
        servers.drop(url, name)


@pytest.fixture
async def connect(make: Callable[[], Store]) -> AsyncIterator[Connect]:
    """Opens a new store on this test's database with each call."""
    opened: list[Store] = []

    async def another() -> Store:
        opened.append(make())
        await opened[-1].open([ORDERS])
        return opened[-1]

    yield another
    for store in opened:
        await store.close()


@pytest.fixture
async def store(connect: Connect) -> Store:
    return await connect()


def order(document_id: str = "o1", version: int = 1, collection: str = ORDERS, **body: Any) -> Record:
    return Record(collection, document_id, version, body)


def row(message_id: str, written_at: float = 1.0) -> OutboxRow:
    return OutboxRow(message_id, written_at, f"payload of {message_id}".encode())


async def commit(store: Store, *records: Record, **rest: Any) -> None:
    """Commit these without reading first."""

    async def work(_: Reader) -> tuple[Changes, None]:
        return Changes(records=records, **rest), None

    await store.transact(work)


async def load(store: Store, *keys: Key) -> dict[Key, Record]:
    async def work(reader: Reader) -> tuple[Changes, dict[Key, Record]]:
        return Changes(), await reader.load(keys)

    return await store.transact(work)


async def seen(store: Store, *inbox_keys: str) -> set[str]:
    async def work(reader: Reader) -> tuple[Changes, set[str]]:
        return Changes(), await reader.known_inbox_keys(inbox_keys)

    return await store.transact(work)


async def pending_outbox(store: Store) -> list[str]:
    return [row.message_id for row in await store.pending_outbox(written_before=1e12, limit=1000)]


async def is_empty(store: Store) -> bool:
    return not await store.find(ORDERS) and not await pending_outbox(store) and not await seen(store, "in1")


def incremented(key: Key, inbox: Sequence[str] = ()) -> Callable[[Reader], Awaitable[tuple[Changes, int]]]:
    """Work that reads one document and writes it with its count incremented."""

    async def work(reader: Reader) -> tuple[Changes, int]:
        found = (await reader.load([key])).get(key)
        count = found.body["count"] + 1 if found else 1
        record = Record(*key, found.version + 1 if found else 1, {"count": count})
        return Changes(records=[record], inbox=inbox), count

    return work


async def retried(store: Store, work: Callable[[Reader], Awaitable[tuple[Changes, int]]]) -> int:
    """Run `work` until it is committed, as a worker does after WriteConflict; the test's time limit bounds it."""
    while True:
        try:
            return await store.transact(work)
        except WriteConflict:
            await asyncio.sleep(0)


# --- one commit ---------------------------------------------------------------------------------------------------------------


async def test_a_commit_writes_documents_inbox_and_outbox(store: Store) -> None:
    await commit(store, order(state="PENDING"), inbox=["in1"], outbox=[row("m1")])
    assert (await load(store, (ORDERS, "o1")))[ORDERS, "o1"] == order(state="PENDING")
    assert await seen(store, "in1", "in2") == {"in1"}
    assert await store.pending_outbox(written_before=2.0, limit=10) == [row("m1")]


async def test_a_commit_returns_the_result_of_its_work(store: Store) -> None:
    async def work(_: Reader) -> tuple[Changes, str]:
        return Changes(), "result"

    assert await store.transact(work) == "result"


async def test_work_that_raises_writes_nothing_and_its_error_is_raised(store: Store) -> None:
    async def work(reader: Reader) -> tuple[Changes, None]:
        await reader.load([(ORDERS, "o1")])
        raise LookupError("from work")

    with pytest.raises(LookupError, match="from work"):
        await store.transact(work)
    assert await is_empty(store)


async def test_a_timeout_raised_by_work_stays_a_timeout(store: Store) -> None:
    async def work(_: Reader) -> tuple[Changes, None]:
        raise TimeoutError("from work")

    with pytest.raises(TimeoutError, match="from work"):
        await store.transact(work)


async def test_a_duplicate_input_writes_nothing_of_its_commit(store: Store) -> None:
    await commit(store, inbox=["in2"])
    with pytest.raises(DuplicateInput):
        await commit(store, order(), inbox=["in1", "in2"], outbox=[row("m1")])
    assert await is_empty(store)


async def test_the_same_input_twice_in_one_commit_is_a_duplicate(store: Store) -> None:
    with pytest.raises(DuplicateInput):
        await commit(store, order(), inbox=["in1", "in1"])
    assert await is_empty(store)


async def test_of_concurrent_commits_of_one_input_one_succeeds(connect: Connect) -> None:
    stores = [await connect(), await connect()]
    works = [incremented((ORDERS, "o1"), inbox=["in1"]) for _ in range(10)]
    ends = await asyncio.gather(*(retried(stores[n % 2], work) for n, work in enumerate(works)), return_exceptions=True)
    assert ends.count(1) == 1
    assert sum(isinstance(end, DuplicateInput) for end in ends) == len(works) - 1
    assert (await load(stores[0], (ORDERS, "o1")))[ORDERS, "o1"].body == {"count": 1}


async def test_a_message_id_that_is_in_the_outbox_is_refused(store: Store) -> None:
    await commit(store, outbox=[row("m1")])
    with pytest.raises(DataRefused):
        await commit(store, order(), outbox=[row("m1"), row("m2")])
    assert await store.find(ORDERS) == []
    assert await pending_outbox(store) == ["m1"]


async def test_a_commit_creates_collections_that_do_not_exist(store: Store) -> None:
    await commit(store, order(collection="novelties", count=1), order(collection="rarities", count=2), inbox=["in1"])
    assert [record.body for record in await store.find("novelties")] == [{"count": 1}]
    assert [record.body for record in await store.find("rarities")] == [{"count": 2}]


async def test_a_batch_of_256_is_one_commit(store: Store) -> None:
    size = 256
    keys = [(ORDERS, f"o{n:03}") for n in range(size)]
    inbox = [f"in{n}" for n in range(size)]
    first, second = [row(f"m{n}") for n in range(size)], [row(f"n{n}") for n in range(size)]
    await commit(store, *(Record(*key, 1, {"n": n}) for n, key in enumerate(keys)), inbox=inbox, outbox=first)

    async def work(reader: Reader) -> tuple[Changes, int]:
        found = await reader.load(keys)
        again = [Record(*key, found[key].version + 1, {"n": n + 1}) for n, key in enumerate(keys)]
        return Changes(records=again, outbox=second, published=[row.message_id for row in first]), len(found)

    assert await store.transact(work) == size
    assert [found.body["n"] for found in (await load(store, *keys)).values()].count(0) == 0
    assert await seen(store, *inbox) == set(inbox)
    assert sorted(await pending_outbox(store)) == sorted(row.message_id for row in second)


# --- versions and conflicts ---------------------------------------------------------------------------------------------------


async def test_the_next_version_replaces_the_whole_body(store: Store) -> None:
    await commit(store, order(state="PENDING", due_at=5.0))
    await commit(store, order(version=2, state="COMPLETED"))
    assert await store.find(ORDERS) == [order(version=2, state="COMPLETED")]


@pytest.mark.parametrize("version", [1, 2, 4])
async def test_a_version_that_is_not_the_next_one_is_a_conflict(store: Store, version: int) -> None:
    await commit(store, order(state="one"))
    await commit(store, order(version=2, state="two"))
    runs = 0

    async def work(_: Reader) -> tuple[Changes, None]:
        nonlocal runs
        runs += 1
        return Changes(records=[order("o2"), order(version=version, state="late")], inbox=["in1"], outbox=[row("m1")]), None

    with pytest.raises(WriteConflict):
        await store.transact(work)
    assert runs == 1 + CONFLICT_RETRIES_MAX
    assert await store.find(ORDERS) == [order(version=2, state="two")]
    assert await pending_outbox(store) == []
    assert await seen(store, "in1") == set()


async def test_a_later_version_of_a_missing_document_is_a_conflict(store: Store) -> None:
    with pytest.raises(WriteConflict):
        await commit(store, order(version=2))
    assert await is_empty(store)


@pytest.mark.parametrize("exists", [False, True])
async def test_a_concurrent_writer_causes_a_rerun_and_both_effects_count(connect: Connect, exists: bool) -> None:
    first, second = await connect(), await connect()
    key = (ORDERS, "o1")
    if exists:
        await first.transact(incremented(key))
    runs = 0

    async def overtaken(reader: Reader) -> tuple[Changes, int]:
        nonlocal runs
        runs += 1
        changes = await incremented(key)(reader)
        if runs == 1:
            await second.transact(incremented(key))
        return changes

    count = await first.transact(overtaken)
    assert runs == 2
    assert count == 2 + exists
    assert (await load(second, key))[key] == Record(*key, count, {"count": count})


async def test_two_hundred_concurrent_increments_are_all_counted(connect: Connect) -> None:
    stores, key = [await connect(), await connect()], (STOCK, "apple")

    async def ten_times(store: Store) -> None:
        for _ in range(10):
            await retried(store, incremented(key))

    await asyncio.gather(*(ten_times(stores[n % 2]) for n in range(20)))
    assert (await load(stores[0], key))[key] == Record(*key, 200, {"count": 200})


async def test_the_memory_store_yields_between_reading_and_writing() -> None:
    store, runs = MemoryStore(MemoryDatabase()), 0

    async def counted(reader: Reader) -> tuple[Changes, int]:
        nonlocal runs
        runs += 1
        return await incremented((ORDERS, "o1"))(reader)

    assert sorted(await asyncio.gather(store.transact(counted), store.transact(counted))) == [1, 2]
    assert runs == 3


async def test_work_reads_one_snapshot_while_others_commit(connect: Connect) -> None:
    first, second = await connect(), await connect()
    await commit(first, order("o1", n=1), order("o2", n=1))

    async def work(reader: Reader) -> tuple[Changes, list[Any]]:
        before = await reader.load([(ORDERS, "o1")])
        await commit(second, order("o1", version=2, n=2), order("o2", version=2, n=2), order("o3", n=2), inbox=["in1"])
        after = await reader.load([(ORDERS, "o1"), (ORDERS, "o2"), (ORDERS, "o3")])
        return Changes(), [before, after, await reader.known_inbox_keys(["in1"])]

    before, after, inbox = await first.transact(work)
    assert [record.body["n"] for record in before.values()] == [1]
    assert [record.body["n"] for record in after.values()] == [1, 1]
    assert inbox == set()
    assert [record.body["n"] for record in await first.find(ORDERS)] == [2, 2, 2]


async def test_a_snapshot_outlives_many_later_versions(connect: Connect) -> None:
    first, second = await connect(), await connect()
    await commit(first, order(n=0))

    async def work(reader: Reader) -> tuple[Changes, Any]:
        await reader.load([(ORDERS, "o2")])
        for n in range(1, 5):
            await commit(second, order(version=n + 1, n=n))
            await load(second, (ORDERS, "o1"))
        return Changes(), (await reader.load([(ORDERS, "o1")]))[ORDERS, "o1"].body["n"]

    assert await first.transact(work) == 0
    assert (await load(first, (ORDERS, "o1")))[ORDERS, "o1"].body == {"n": 4}


async def test_a_document_that_was_only_read_causes_no_conflict(connect: Connect) -> None:
    first, second = await connect(), await connect()
    await commit(first, order("o1", n=1))
    runs = 0

    async def work(reader: Reader) -> tuple[Changes, None]:
        nonlocal runs
        runs += 1
        await reader.load([(ORDERS, "o1"), (ORDERS, "o2")])
        await commit(second, order("o1", version=2, n=2))
        return Changes(records=[order("o2")]), None

    await first.transact(work)
    assert runs == 1


async def test_a_cancelled_call_stays_cancelled(store: Store) -> None:
    started = asyncio.Event()

    async def work(reader: Reader) -> tuple[Changes, None]:
        await reader.load([(ORDERS, "o1")])
        started.set()
        await asyncio.Event().wait()
        return Changes(records=[order()]), None

    task = asyncio.create_task(store.transact(work))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await store.find(ORDERS) == []
    await commit(store, order())  # the cancelled transaction blocks nothing


# --- stored values -----------------------------------------------------------------------------------------------------------


async def test_stored_data_does_not_change_with_objects_that_callers_hold(store: Store) -> None:
    lines = [{"sku": "apple", "quantity": 1}]
    await commit(store, order(lines=lines))
    lines[0]["quantity"] = 99
    for held in (await load(store, (ORDERS, "o1")))[ORDERS, "o1"], (await store.find(ORDERS))[0]:
        held.body["lines"][0]["quantity"] = 99
        held.body["lines"].append("more")
    assert (await store.find(ORDERS))[0].body == {"lines": [{"sku": "apple", "quantity": 1}]}


async def test_stored_values_are_read_back_unchanged(store: Store) -> None:
    body: dict[str, Any] = {
        "text": "Grüße \U0001f34e \x00 \"'\\",
        "none": None,
        "yes": True,
        "least": -(2**63),
        "most": 2**63 - 1,
        "price": 0.1,
        "empty": [{}, [], ""],
        "nested": {"a.b": {"$c": [1, [2, {"": 3}]]}},
    }
    await commit(store, order(**body))
    assert (await store.find(ORDERS))[0].body == body


# --- refusals -----------------------------------------------------------------------------------------------------------------


def nested(depth: int) -> dict[str, Any]:
    body: dict[str, Any] = {}
    for _ in range(depth):
        body = {"inner": body}
    return body


REFUSED = {
    "an integer above 64 bits": {"n": 2**63},
    "an integer below 64 bits": {"n": [{"n": -(2**63) - 1}]},
    "a lone surrogate": {"text": "\ud800"},
    "a lone surrogate in a field": {"inner": {"\ud800": 1}},
    "NUL in a field": {"inner": {"a\x00b": 1}},
    "a field that is no text": {"inner": {1: 1}},
    "a top field that is no text": {1: 1},
    "a set": {"tags": {1}},
    "an object": {"thing": object()},
    "a $ field": {"$set": 1},
    "the store's own _id": {"_id": "other"},
    "the store's own version": {"version": 7},
    "far too deep nesting": nested(5000),
    "more than 16 MB": {"text": "x" * (17 * 1024 * 1024)},
}


@pytest.mark.parametrize("version", [1, 2], ids=["insert", "replace"])
@pytest.mark.parametrize("body", REFUSED.values(), ids=REFUSED.keys())
async def test_data_that_a_database_refuses_is_refused(store: Store, body: dict[Any, Any], version: int) -> None:
    if version > 1:
        await commit(store, order(state="before"))
    before = await store.find(ORDERS)
    with pytest.raises(DataRefused):
        await commit(store, order("o0"), Record(ORDERS, "o1", version, body), inbox=["in1"], outbox=[row("m1")])
    assert await store.find(ORDERS) == before
    assert await pending_outbox(store) == []
    assert await seen(store, "in1") == set()


@pytest.mark.parametrize(
    "changes",
    [
        Changes(records=[order("\ud800")]),
        Changes(inbox=["\ud800"]),
        Changes(outbox=[row("m1"), OutboxRow("\ud800", 1.0, b"")]),
        Changes(records=[order(state="one"), order(version=2, state="two")]),
    ],
    ids=["document id", "inbox key", "message id", "one document twice"],
)
async def test_ids_that_a_database_refuses_are_refused(store: Store, changes: Changes) -> None:
    async def work(_: Reader) -> tuple[Changes, None]:
        return changes, None

    with pytest.raises(DataRefused):
        await store.transact(work)
    assert await is_empty(store)


async def test_a_refused_commit_does_not_block_another_store(connect: Connect) -> None:
    first, second = await connect(), await connect()
    with pytest.raises(DataRefused):  # a real server refuses the outbox row after the document was written
        await commit(first, order(), outbox=[OutboxRow("\ud800", 1.0, b"")])
    await commit(second, order(state="free"))
    assert await first.find(ORDERS) == [order(state="free")]


# --- timers, the outbox, find, put and wipe -----------------------------------------------------------------------------------


async def test_due_returns_overdue_documents_oldest_first_up_to_a_limit(store: Store) -> None:
    await commit(store, *(order(f"o{n}", due_at=float(n)) for n in (3, 1, 5, 2)), order("never"))
    assert [record.document_id for record in await store.due(ORDERS, now=3.0, limit=10)] == ["o1", "o2", "o3"]
    assert [record.document_id for record in await store.due(ORDERS, now=9.0, limit=2)] == ["o1", "o2"]
    assert await store.due(ORDERS, now=0.5, limit=10) == []
    assert await store.due("elsewhere", now=9.0, limit=10) == []


async def test_a_document_without_due_at_is_not_due(store: Store) -> None:
    await commit(store, order("o1", due_at=1.0), order("o2", due_at=1.0))
    await commit(store, order("o1", version=2), order("o2", version=2, due_at=8.0))
    assert await store.due(ORDERS, now=5.0, limit=10) == []
    assert await store.due(ORDERS, now=9.0, limit=10) == [order("o2", version=2, due_at=8.0)]


async def test_pending_outbox_returns_rows_oldest_first_up_to_a_limit(store: Store) -> None:
    await commit(store, outbox=[row("m3", 3.0), row("m1", 1.0), row("m2", 2.0)])
    assert await store.pending_outbox(written_before=3.0, limit=10) == [row("m1", 1.0), row("m2", 2.0)]
    assert await store.pending_outbox(written_before=9.0, limit=1) == [row("m1", 1.0)]
    assert await store.pending_outbox(written_before=1.0, limit=10) == []


async def test_a_later_commit_deletes_published_outbox_rows(store: Store) -> None:
    await commit(store, outbox=[row("m1"), row("m2")])
    await commit(store, outbox=[row("m3")], published=["m1", "never written"])
    assert sorted(await pending_outbox(store)) == ["m2", "m3"]


async def test_a_failed_commit_deletes_no_outbox_row(store: Store) -> None:
    await commit(store, inbox=["in1"], outbox=[row("m1")])
    with pytest.raises(DuplicateInput):
        await commit(store, inbox=["in1"], published=["m1"])
    assert await pending_outbox(store) == ["m1"]


async def test_delete_published_deletes_outbox_rows(store: Store) -> None:
    await commit(store, outbox=[row("m1"), row("m2")])
    await store.delete_published(["m1", "never written"])
    await store.delete_published([])
    assert await pending_outbox(store) == ["m2"]


async def test_find_returns_matching_documents_newest_id_first(store: Store) -> None:
    await commit(store, order("o1", state="A"), order("o3", state="A"), order("o2", state="B"))
    assert [record.document_id for record in await store.find(ORDERS)] == ["o3", "o2", "o1"]
    assert [record.document_id for record in await store.find(ORDERS, {"state": "A"})] == ["o3", "o1"]
    assert [record.document_id for record in await store.find(ORDERS, {"state": "A"}, limit=1)] == ["o3"]
    assert [record.document_id for record in await store.find(ORDERS, limit=2)] == ["o3", "o2"]
    assert await store.find(ORDERS, {"state": {"$ne": "A"}}) == []
    assert await store.find("elsewhere") == []


async def test_put_overwrites_any_version(store: Store) -> None:
    await commit(store, order("o1", n=1))
    await store.put([order("o1", version=7, n=7, due_at=1.0), order("o2", n=2), order(collection="elsewhere", n=3)])
    assert await store.find(ORDERS) == [order("o2", n=2), order("o1", version=7, n=7, due_at=1.0)]
    assert await store.find("elsewhere") == [order(collection="elsewhere", n=3)]
    assert await store.due(ORDERS, now=1.0, limit=10) == [order("o1", version=7, n=7, due_at=1.0)]
    await commit(store, order("o1", version=8, n=8))
    with pytest.raises(DataRefused):
        await store.put([order("o3", n=2**64)])
    await store.put([])


async def test_wipe_empties_the_database_and_work_goes_on(connect: Connect) -> None:
    first, second = await connect(), await connect()
    await commit(first, order(due_at=1.0), order(collection=STOCK), inbox=["in1"], outbox=[row("m1")])
    await second.wipe()
    assert await is_empty(first)
    assert await first.find(STOCK) == []
    assert await first.due(ORDERS, now=9.0, limit=10) == []
    await commit(first, order(due_at=1.0), order(collection=STOCK), inbox=["in1"], outbox=[row("m1")])
    assert await second.due(ORDERS, now=9.0, limit=10) == [order(due_at=1.0)]


async def test_opening_again_changes_nothing(connect: Connect, store: Store) -> None:
    await commit(store, order(), inbox=["in1"], outbox=[row("m1")])
    await store.open([ORDERS])
    other = await connect()
    assert await other.find(ORDERS) == [order()]
    assert await seen(store, "in1") == {"in1"}
    assert await pending_outbox(other) == ["m1"]
