"""The gateway's books without HTTP: the same rules on both storages, and what only the durable one must keep."""

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
    """A clock that a test sets."""

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
    return Books(storage, now=lambda: 0.0, faults=True)


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
async def test_a_new_key_is_decided_as_the_injected_failure_says(
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
async def test_a_known_key_keeps_its_decision_whatever_failure_a_repeated_call_names(
    books: Books, failure: GatewayFault | None, response_mode: ResponseMode
) -> None:
    await books.authorize("a", "k", 4200, "EUR")
    assert (await books.authorize("a", "k", 4200, "EUR", failure)).response_mode is response_mode
    assert await books.find("a", "k") == AUTHORIZED


async def test_a_pending_payment_settles_by_itself_at_its_time_and_not_before(books: Books, clock: Clock) -> None:
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


async def test_a_void_of_an_unknown_key_refuses_the_authorization_that_comes_after_it(books: Books) -> None:
    assert (await books.void("a", "k")).answer is AuthorizationState.VOIDED
    assert (await books.authorize("a", "k", 4200, "EUR")).answer is AuthorizationState.VOIDED
    assert await books.find("a", "k") == PaymentRecord(AuthorizationState.VOIDED)


async def test_another_amount_or_currency_under_a_known_key_is_the_callers_error(books: Books) -> None:
    await books.authorize("a", "k", 4200, "EUR")
    assert (await books.authorize("a", "k", 4201, "EUR")).response_mode is ResponseMode.MISMATCH
    assert (await books.authorize("a", "k", 4200, "USD")).response_mode is ResponseMode.MISMATCH
    assert await books.find("a", "k") == AUTHORIZED


async def test_a_failing_void_changes_nothing_and_is_noted(books: Books) -> None:
    await books.authorize("a", "k", 4200, "EUR")
    assert (await books.void("a", "k", "void_error")).response_mode is ResponseMode.FAILED
    assert await books.find("a", "k") == AUTHORIZED
    assert await books.acted("a") == {GatewayFault.VOID_ERROR: ["k"]}


async def test_a_failure_acts_once_for_each_key_however_often_it_is_met(books: Books) -> None:
    for key in ("k1", "k1", "k2"):
        await books.authorize("a", key, 4200, "EUR", "error")
    acted = await books.acted("a")
    assert sorted(acted[GatewayFault.ERROR]) == ["k1", "k2"]


async def test_a_failure_nobody_knows_is_refused_aloud(books: Books) -> None:
    with pytest.raises(UnknownFault, match=r"'hnag'.*hang"):
        await books.authorize("a", "k", 4200, "EUR", "hnag")
    assert await books.find("a", "k") is None


async def test_without_faults_no_failure_is_honoured_and_none_is_unknown(clock: Clock) -> None:
    books = Books(MemoryStorage(), now=clock, faults=False)
    for failure in (*GatewayFault, "hnag"):
        assert (await books.authorize("a", failure, 4200, "EUR", failure)).response_mode is ResponseMode.IMMEDIATE
        assert (await books.void("a", failure, failure)).answer is AuthorizationState.VOIDED
    assert await books.acted("a") == {}


async def test_books_know_nothing_of_each_other(books: Books) -> None:
    await books.authorize("a", "k", 4200, "EUR", "slow")
    await books.void("b", "k", "void_error")
    await books.authorize("b", "k", 100, "EUR")
    await books.empty("a")
    assert (await books.page("a"), await books.acted("a")) == ([], {})
    assert await books.page("b") == [("k", PaymentRecord(AuthorizationState.AUTHORIZED, 100, "EUR"))]
    assert await books.acted("b") == {GatewayFault.VOID_ERROR: ["k"]}


async def test_pages_put_together_give_every_payment_once_in_the_order_of_keys(books: Books) -> None:
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
def test_whatever_is_called_in_whatever_order_a_decision_is_kept_and_a_void_is_final(
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
            assert decision.answer is after.state, "an answer says what is recorded"
        else:
            assert after == before, "a failed call records nothing"


# --- the durable storage --------------------------------------------------------------------------------------------------


def committed(storage: SqliteStorage) -> Callable[[], int]:
    """Counts the transactions of a storage from now on."""
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
    # The one thread that commits is kept busy: the transaction is open, its COMMIT waits behind.
    busy = loop.run_in_executor(storage._committer, asyncio.run_coroutine_threadsafe(release.wait(), loop).result)
    asked = asyncio.create_task(books.authorize("a", "k", 1, "EUR"))
    for _ in range(100):  # more turns of the loop than anything but the COMMIT needs
        await asyncio.sleep(0)
    assert storage._writer.in_transaction
    assert not asked.done()
    assert await books.find("a", "k") is None
    release.set()
    assert (await asked).answer is AuthorizationState.AUTHORIZED
    assert await books.find("a", "k") is not None
    await busy


async def test_a_caller_that_left_has_been_recorded_all_the_same(storage: SqliteStorage) -> None:
    books = durable(storage)
    asked = asyncio.create_task(books.authorize("a", "left", 1, "EUR"))
    await asyncio.sleep(0)
    asked.cancel()
    await books.authorize("a", "stayed", 1, "EUR")
    assert [key for key, _ in await books.page("a")] == ["left", "stayed"]


async def test_books_that_cannot_be_written_say_so_to_everyone_who_waits_and_recover(storage: SqliteStorage) -> None:
    books = durable(storage)
    storage._writer.execute("PRAGMA query_only = ON")
    results = await asyncio.gather(*(books.authorize("a", f"k{n}", 1, "EUR") for n in range(10)), return_exceptions=True)
    assert [type(result) for result in results] == [StorageFailed] * 10
    storage._writer.execute("PRAGMA query_only = OFF")
    assert await books.page("a") == []
    assert (await books.authorize("a", "k1", 1, "EUR")).answer is AuthorizationState.AUTHORIZED


async def test_books_that_cannot_be_read_say_so(storage: SqliteStorage) -> None:
    storage._writer.execute("DROP TABLE payments")
    with pytest.raises(StorageFailed, match="no such table"):
        await durable(storage).page("a")


async def test_a_failure_in_the_middle_of_a_transaction_takes_it_back_as_a_whole(storage: SqliteStorage) -> None:
    def bug(_: PaymentRecord | None) -> rules.Decision:
        raise LookupError("a bug")

    books = durable(storage)
    calls = [books.authorize("a", "before", 1, "EUR"), storage.apply("a", "k", bug), books.authorize("a", "after", 1, "EUR")]
    results = await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), 10)
    assert [type(result) for result in results] == [LookupError] * 3
    assert await books.page("a") == []
    assert (await books.authorize("a", "before", 1, "EUR")).answer is AuthorizationState.AUTHORIZED


async def test_books_opened_again_say_what_they_said_before(tmp_path: Path) -> None:
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
