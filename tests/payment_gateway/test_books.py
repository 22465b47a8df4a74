"""The gateway's books without HTTP: the same rules on both storages, and the durability of the SQLite one."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from payment_gateway import rules
from payment_gateway.books import Books, UnknownFault
from payment_gateway.rules import AuthorizationState, GatewayFault, PaymentRecord, ResponseMode
from payment_gateway.sqlite import SqliteStorage
from payment_gateway.storage import MemoryStorage, StorageFailed

SETTLE_AFTER_S = 5.0
AUTHORIZED = PaymentRecord(AuthorizationState.AUTHORIZED, 4200, "EUR")


class Clock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["memory", "sqlite"])
async def books(request: pytest.FixtureRequest, clock: Clock, tmp_path: Path) -> AsyncIterator[Books]:
    storage = MemoryStorage() if request.param == "memory" else SqliteStorage(tmp_path / "books.db")
    made = Books(storage, now=clock, faults=True, settle_after_s=SETTLE_AFTER_S)
    yield made
    await made.close()


@pytest.fixture
async def storage(tmp_path: Path) -> AsyncIterator[SqliteStorage]:
    made = SqliteStorage(tmp_path / "books.db")
    yield made
    await made.close()


def durable(storage: SqliteStorage) -> Books:
    return Books(storage, now=lambda: 0.0, faults=True, settle_after_s=SETTLE_AFTER_S)


# --- rules ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("failure", "answer", "response_mode", "recorded"),
    [
        (None, AuthorizationState.AUTHORIZED, ResponseMode.IMMEDIATE, AuthorizationState.AUTHORIZED),
        (GatewayFault.DECLINED, AuthorizationState.DECLINED, ResponseMode.IMMEDIATE, AuthorizationState.DECLINED),
        (GatewayFault.PENDING, AuthorizationState.PENDING, ResponseMode.IMMEDIATE, AuthorizationState.PENDING),
        (GatewayFault.HANG, AuthorizationState.AUTHORIZED, ResponseMode.NEVER, AuthorizationState.AUTHORIZED),
        (GatewayFault.DROP, AuthorizationState.AUTHORIZED, ResponseMode.DROPPED, AuthorizationState.AUTHORIZED),
        (GatewayFault.ERROR, None, ResponseMode.FAILED, None),
        (GatewayFault.SLOW, AuthorizationState.AUTHORIZED, ResponseMode.LATE, AuthorizationState.AUTHORIZED),
        (GatewayFault.VOID_ERROR, AuthorizationState.AUTHORIZED, ResponseMode.IMMEDIATE, AuthorizationState.AUTHORIZED),
    ],
)
async def test_a_new_key_is_decided_by_the_injected_failure(
    books: Books,
    failure: GatewayFault | None,
    answer: AuthorizationState | None,
    response_mode: ResponseMode,
    recorded: AuthorizationState | None,
) -> None:
    decision = await books.authorize("a", "k", 4200, "EUR", failure)
    assert (decision.answer, decision.response_mode) == (answer, response_mode)
    payment = await books.find("a", "k")
    assert (payment.state if payment else None) == recorded
    acted = {} if failure in (None, GatewayFault.VOID_ERROR) else {failure: ["k"]}
    assert await books.acted("a") == acted


@pytest.mark.parametrize(
    ("failure", "response_mode"),
    [
        (None, ResponseMode.IMMEDIATE),
        (GatewayFault.DECLINED, ResponseMode.IMMEDIATE),
        (GatewayFault.PENDING, ResponseMode.IMMEDIATE),
        (GatewayFault.DROP, ResponseMode.DROPPED),
        (GatewayFault.HANG, ResponseMode.NEVER),
        (GatewayFault.SLOW, ResponseMode.LATE),
        (GatewayFault.ERROR, ResponseMode.FAILED),
    ],
)
async def test_a_repeated_call_with_a_failure_does_not_change_the_decision(
    books: Books, failure: GatewayFault | None, response_mode: ResponseMode
) -> None:
    await books.authorize("a", "k", 4200, "EUR")
    assert (await books.authorize("a", "k", 4200, "EUR", failure)).response_mode is response_mode
    assert await books.find("a", "k") == AUTHORIZED


async def test_a_pending_payment_settles_by_itself_after_its_time(books: Books, clock: Clock) -> None:
    await books.authorize("a", "k", 4200, "EUR", "pending")
    clock.now += SETTLE_AFTER_S - 0.001
    assert (await books.authorize("a", "k", 4200, "EUR")).answer is AuthorizationState.PENDING
    clock.now += 0.001
    assert (await books.authorize("a", "k", 4200, "EUR")).answer is AuthorizationState.AUTHORIZED
    assert await books.find("a", "k") == AUTHORIZED
    assert await books.page("a") == [("k", AUTHORIZED)]


async def test_a_pending_payment_that_is_voided_never_settles(books: Books, clock: Clock) -> None:
    await books.authorize("a", "k", 4200, "EUR", "pending")
    await books.void("a", "k")
    clock.now += 10 * SETTLE_AFTER_S
    assert await books.find("a", "k") == PaymentRecord(AuthorizationState.VOIDED, 4200, "EUR")


async def test_a_void_of_an_unknown_key_refuses_a_later_authorization(books: Books) -> None:
    assert (await books.void("a", "k")).answer is AuthorizationState.VOIDED
    assert (await books.authorize("a", "k", 4200, "EUR")).answer is AuthorizationState.VOIDED
    assert await books.find("a", "k") == PaymentRecord(AuthorizationState.VOIDED)


async def test_another_amount_or_currency_for_a_known_key_is_a_mismatch(books: Books) -> None:
    await books.authorize("a", "k", 4200, "EUR")
    assert (await books.authorize("a", "k", 4201, "EUR")).response_mode is ResponseMode.MISMATCH
    assert (await books.authorize("a", "k", 4200, "USD")).response_mode is ResponseMode.MISMATCH
    assert await books.find("a", "k") == AUTHORIZED


async def test_a_failing_void_changes_nothing_and_is_counted(books: Books) -> None:
    await books.authorize("a", "k", 4200, "EUR")
    assert (await books.void("a", "k", "void_error")).response_mode is ResponseMode.FAILED
    assert await books.find("a", "k") == AUTHORIZED
    assert await books.acted("a") == {GatewayFault.VOID_ERROR: ["k"]}


async def test_a_failure_that_acts_again_on_a_key_is_counted_once(books: Books) -> None:
    for key in ("k1", "k1", "k2"):
        await books.authorize("a", key, 4200, "EUR", "error")
    acted = await books.acted("a")
    assert sorted(acted[GatewayFault.ERROR]) == ["k1", "k2"]


async def test_an_unknown_failure_is_an_error(books: Books) -> None:
    with pytest.raises(UnknownFault, match=r"'hnag'.*hang"):
        await books.authorize("a", "k", 4200, "EUR", "hnag")
    assert await books.find("a", "k") is None


async def test_without_faults_no_failure_acts_and_none_is_unknown(clock: Clock) -> None:
    books = Books(MemoryStorage(), now=clock, faults=False, settle_after_s=SETTLE_AFTER_S)
    for failure in (*GatewayFault, "hnag"):
        assert (await books.authorize("a", failure, 4200, "EUR", failure)).response_mode is ResponseMode.IMMEDIATE
        assert (await books.void("a", failure, failure)).answer is AuthorizationState.VOIDED
    assert await books.acted("a") == {}


async def test_books_are_independent_of_each_other(books: Books) -> None:
    await books.authorize("a", "k", 4200, "EUR", "slow")
    await books.void("b", "k", "void_error")
    await books.authorize("b", "k", 100, "EUR")
    await books.empty("a")
    assert (await books.page("a"), await books.acted("a")) == ([], {})
    assert await books.page("b") == [("k", PaymentRecord(AuthorizationState.AUTHORIZED, 100, "EUR"))]
    assert await books.acted("b") == {GatewayFault.VOID_ERROR: ["k"]}


async def test_the_pages_hold_every_payment_once_sorted_by_key(books: Books) -> None:
    keys = [f"k{number:03}" for number in range(25)]
    for key in reversed(keys):
        await books.authorize("a", key, 1, "EUR")
    seen: list[str] = []
    while page := await books.page("a", after=seen[-1] if seen else "", limit=10):
        seen += [key for key, _ in page]
    assert seen == keys


CALLS = st.lists(
    st.tuples(st.sampled_from(["authorize", "void"]), st.none() | st.sampled_from(list(GatewayFault)), st.floats(0, 9))
)


@given(CALLS)
def test_in_any_sequence_decisions_are_kept_and_voids_are_final(
    calls: list[tuple[str, GatewayFault | None, float]],
) -> None:
    known: PaymentRecord | None = None
    now = 0.0
    for verb, failure, later in calls:
        now += later
        before = rules.current(known, now) if known else None
        if verb == "void":
            decision = rules.void(known, failure)
        else:
            decision = rules.authorize(known, 4200, "EUR", failure, now=now, settle_after_s=SETTLE_AFTER_S)
        known = decision.record or known
        after = rules.current(known, now) if known else None
        if before is not None and after != before:
            assert (verb, after.state if after else None) == ("void", AuthorizationState.VOIDED), "only a void changes a decision"
            assert before.state is not AuthorizationState.VOIDED, "a void is final"
        if decision.answer is not None:
            assert after is not None, "no answer without a record"
            assert decision.answer is after.state, "an answer is what is recorded"
        else:
            assert after == before, "a failed call records nothing"


# --- the SQLite storage ---------------------------------------------------------------------------------------------------


def committed(storage: SqliteStorage) -> Callable[[], int]:
    """Count the transactions of a storage from now on."""
    statements: list[str] = []
    storage._writer.set_trace_callback(statements.append)
    return lambda: statements.count("COMMIT")


async def test_concurrent_calls_share_transactions(storage: SqliteStorage) -> None:
    commits = committed(storage)
    books = durable(storage)
    await asyncio.gather(*(books.authorize("a", f"k{number}", 1, "EUR") for number in range(200)))
    assert len(await books.page("a")) == 200
    assert 1 <= commits() <= 5


async def test_calls_for_one_key_in_one_transaction_see_each_other(storage: SqliteStorage) -> None:
    commits = committed(storage)
    books = durable(storage)
    calls = [books.void("a", "k"), books.authorize("a", "k", 1, "EUR"), books.authorize("a", "k", 2, "EUR", "declined")]
    assert [decision.answer for decision in await asyncio.gather(*calls)] == [AuthorizationState.VOIDED] * 3
    assert commits() == 1


async def test_no_answer_is_given_before_its_record_is_committed(storage: SqliteStorage) -> None:
    books = durable(storage)
    release = asyncio.Event()
    loop = asyncio.get_running_loop()
    # The only thread that commits is blocked: the transaction is open, its COMMIT waits.
    busy = loop.run_in_executor(storage._committer, asyncio.run_coroutine_threadsafe(release.wait(), loop).result)
    call = asyncio.create_task(books.authorize("a", "k", 1, "EUR"))
    for _ in range(100):  # more turns of the loop than everything but the COMMIT needs
        await asyncio.sleep(0)
    assert storage._writer.in_transaction
    assert not call.done()
    assert await books.find("a", "k") is None
    release.set()
    assert (await call).answer is AuthorizationState.AUTHORIZED
    assert await books.find("a", "k") is not None
    await busy


async def test_the_call_of_a_cancelled_caller_is_recorded(storage: SqliteStorage) -> None:
    books = durable(storage)
    call = asyncio.create_task(books.authorize("a", "left", 1, "EUR"))
    await asyncio.sleep(0)
    call.cancel()
    await books.authorize("a", "stayed", 1, "EUR")
    assert [key for key, _ in await books.page("a")] == ["left", "stayed"]


async def test_a_failing_commit_raises_in_every_caller_and_the_next_works(storage: SqliteStorage) -> None:
    books = durable(storage)
    storage._writer.execute("PRAGMA query_only = ON")
    results = await asyncio.gather(*(books.authorize("a", f"k{n}", 1, "EUR") for n in range(10)), return_exceptions=True)
    assert [type(result) for result in results] == [StorageFailed] * 10
    storage._writer.execute("PRAGMA query_only = OFF")
    assert await books.page("a") == []
    assert (await books.authorize("a", "k1", 1, "EUR")).answer is AuthorizationState.AUTHORIZED


async def test_a_failing_read_raises_storage_failed(storage: SqliteStorage) -> None:
    storage._writer.execute("DROP TABLE payments")
    with pytest.raises(StorageFailed, match="no such table"):
        await durable(storage).page("a")


async def test_an_error_in_one_call_rolls_the_whole_transaction_back(storage: SqliteStorage) -> None:
    def bug(_: PaymentRecord | None) -> rules.Decision:
        raise LookupError("a bug")

    books = durable(storage)
    calls = [books.authorize("a", "before", 1, "EUR"), storage.apply("a", "k", bug), books.authorize("a", "after", 1, "EUR")]
    results = await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), 10)
    assert [type(result) for result in results] == [LookupError] * 3
    assert await books.page("a") == []
    assert (await books.authorize("a", "before", 1, "EUR")).answer is AuthorizationState.AUTHORIZED


async def test_reopened_books_hold_the_same_payments(tmp_path: Path) -> None:
    first = durable(SqliteStorage(tmp_path / "books.db"))
    await first.authorize("a", "k1", 4200, "EUR", "pending")
    await first.void("a", "k2")
    page, acted = await first.page("a"), await first.acted("a")
    await first.close()
    second = durable(SqliteStorage(tmp_path / "books.db"))
    assert (await second.page("a"), await second.acted("a")) == (page, acted)
    assert [payment.state for _, payment in page] == [AuthorizationState.PENDING, AuthorizationState.VOIDED]
    await second.close()


async def test_every_commit_is_synced(storage: SqliteStorage) -> None:
    assert storage._writer.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert storage._writer.execute("PRAGMA synchronous").fetchone() == (2,), "2 is FULL"
