"""Outages of the database or the broker, and commits in doubt: the worker retries and recovers. In memory, on virtual time."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from bootstrap.memory_backend import MemoryBackend
from bootstrap.modes import Mode
from broker.loop.fault_injection import INJECTED_COLLECTION
from broker.transport import UnsafeTopology
from lab.journeys.catalogue import JOURNEYS
from lab.journeys.run import JourneyRun
from lab.system import System, set_up_stock
from store.memory import MemoryStore
from store.protocol import (
    Changes,
    DuplicateInput,
    OutcomeUnknown,
    Reader,
    Store,
    StoreUnavailable,
    UnsafeStore,
    Work,
    WriteConflict,
)
from tests.support.broker.fault_injection import FailingStore, Fence, fenced_transport
from tests.support.journey_checks import judge, played
from tests.support.system import MODES, all_dead_letters, broker_of, in_memory
from tests.support.toy_service import How, Stage, run_scenario, type_names

Fail = Callable[[Store, Work[Any]], Awaitable[Any]]


async def did_commit(store: Store, work: Work[Any]) -> Any:
    await store.transact(work)
    raise OutcomeUnknown("the response was lost")


async def did_not_commit(_: Store, __: Work[Any]) -> Any:
    raise OutcomeUnknown("the request was lost")


class CommitsLate:
    """A commit in doubt that the server applies a second later."""

    def __init__(self) -> None:
        self.outcome: asyncio.Future[None]

    async def __call__(self, store: Store, work: Work[Any]) -> Any:
        decided = []

        async def decide(reader: Reader) -> tuple[Changes, Any]:
            decided.append(await work(reader))
            return Changes(), None

        async def later() -> None:
            async def write(_: Reader) -> tuple[Changes, Any]:
                return decided[0]

            await asyncio.sleep(1.0)
            await store.transact(write)

        await store.transact(decide)
        self.outcome = asyncio.ensure_future(later())
        raise OutcomeUnknown("the response is late")


async def is_unavailable(_: Store, __: Work[Any]) -> Any:
    raise StoreUnavailable("no server")


async def conflicts(_: Store, __: Work[Any]) -> Any:
    raise WriteConflict("a concurrent commit was faster each time")


@pytest.mark.parametrize("fail", [did_commit, did_not_commit, is_unavailable, conflicts], ids=lambda fail: fail.__name__)
@pytest.mark.parametrize("times", [1, 5])
def test_failed_commit_is_retried_and_takes_effect_once(fail: Fail, times: int) -> None:
    async def scenario(stage: Stage) -> None:
        store = FailingStore(stage.store("till"), [fail] * times)
        stage.start(stage.worker("till", store=store), stage.worker("ledger"), stage.worker("bell"))
        await stage.put_in(*[How.WELL] * 20)
        await stage.rest()
        assert not store.fails, "it never failed"
        for name in ("till", "ledger", "bell"):
            assert await stage.times(name) == {1: 20}
            assert stage.dead(name) == []

    run_scenario(scenario)


def test_messages_of_an_in_doubt_commit_are_published_at_once() -> None:
    """Without waiting until the rows are old enough for the relay."""

    async def scenario(stage: Stage) -> None:
        store = FailingStore(stage.store("till"), [did_commit])
        stage.start(stage.worker("till", store=store))
        await asyncio.sleep(0.5)
        started_at = stage.environment.now()
        await stage.put_in(*[How.WELL] * 20)
        await stage.until(lambda: type_names(stage.published)["till.WasPutIn"] == 20, "all events were published")
        assert stage.environment.now() - started_at < stage.limits.relay_interval_s
        stage.start(stage.worker("ledger"), stage.worker("bell"))
        await stage.rest()
        assert type_names(stage.published)["till.WasPutIn"] == 20

    run_scenario(scenario)


def test_nothing_is_acknowledged_while_the_commit_is_pending() -> None:
    async def scenario(stage: Stage) -> None:
        fence = Fence()
        store = FailingStore(stage.store("till"), [is_unavailable] * 8)
        stage.start(stage.worker("till", transport=fenced_transport(stage.transport(), fence), store=store))
        stage.start(stage.worker("ledger"), stage.worker("bell"))
        await stage.put_in(*[How.WELL] * 20)
        await stage.until(lambda: len(store.fails) == 1, "the commit was attempted often")
        assert fence.calls["ack"] == 0
        assert fence.calls["publish"] == 0
        await stage.rest()
        assert await stage.times("till") == {1: 20}

    run_scenario(scenario)


def test_commit_applied_late_takes_effect_once() -> None:
    async def scenario(stage: Stage) -> None:
        late = CommitsLate()
        store = FailingStore(stage.store("till"), [late])
        stage.start(stage.worker("till", store=store), stage.worker("ledger"), stage.worker("bell"))
        await stage.put_in(*[How.WELL] * 20)
        await stage.rest()
        with pytest.raises(DuplicateInput):  # the inbox rejects the late duplicate
            await late.outcome
        await stage.rest()
        for name in ("till", "ledger", "bell"):
            assert await stage.times(name) == {1: 20}

    run_scenario(scenario)


class SwitchableStore:
    """A store that can be switched off, as a server can."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.is_on = True
        self.refused = 0

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._store, name)

        async def switched(*args: Any, **kwargs: Any) -> Any:
            if not self.is_on:
                self.refused += 1
                raise StoreUnavailable("switched off")
            return await call(*args, **kwargs)

        return switched


def test_database_outage_pauses_the_worker_and_its_background_tasks() -> None:
    async def scenario(stage: Stage) -> None:
        store = SwitchableStore(stage.store("till"))
        stage.start(stage.worker("till", store=store), stage.worker("ledger"), stage.worker("bell"))
        await stage.put_in(How.WAITS, How.WELL)
        await stage.until(lambda: len(stage.databases["ledger"].inbox) == 2, "both were handled")
        store.is_on = False
        await stage.put_in(*[How.WELL] * 10)
        await asyncio.sleep(30.0)
        assert store.refused > 10
        assert await stage.times("till") == {1: 2}
        store.is_on = True
        started_at = stage.environment.now()
        await stage.rest()
        assert stage.environment.now() - started_at < 10.0, "it took long to recover"
        assert await stage.times("till") == {1: 12}
        assert sum(till.woken for till in (await stage.tills()).values()) == 1, "the timer did not survive the outage"

    run_scenario(scenario)


def test_worker_waits_for_its_database_at_startup() -> None:
    async def scenario(stage: Stage) -> None:
        store = SwitchableStore(stage.store("till"))
        store.is_on = False
        stage.start(stage.worker("till", store=store), stage.worker("ledger"), stage.worker("bell"))
        await stage.put_in(How.WELL)
        await asyncio.sleep(10.0)
        assert store.refused > 1
        store.is_on = True
        await stage.rest()
        assert await stage.times("till") == {1: 1}

    run_scenario(scenario)


def test_worker_waits_for_the_broker_at_startup() -> None:
    async def scenario(stage: Stage) -> None:
        await stage.put_in(How.WELL)
        stage.broker.stop()
        stage.start_all()
        await asyncio.sleep(10.0)
        stage.broker.start()
        await stage.rest()
        assert await stage.times("bell") == {1: 1}

    run_scenario(scenario)


def test_worker_waiting_for_its_database_can_be_stopped() -> None:
    async def scenario(stage: Stage) -> None:
        store = SwitchableStore(stage.store("till"))
        store.is_on = False
        till = stage.worker("till", store=store)
        stage.start(till)
        await asyncio.sleep(5.0)
        started_at = stage.environment.now()
        await stage.stop(till)
        assert stage.environment.now() == started_at, "it waited for the next attempt"

    run_scenario(scenario)


class UnsafeMemoryStore(MemoryStore):
    async def open(self, _: object) -> None:
        raise UnsafeStore("no transactions here")


def test_unsafe_database_is_not_retried() -> None:
    async def scenario(stage: Stage) -> None:
        till = stage.worker("till", store=UnsafeMemoryStore(stage.databases["till"]))
        stage.start(till)
        with pytest.raises(UnsafeStore):
            await asyncio.wait_for(stage.tasks.pop(till), 1.0)

    run_scenario(scenario)


def test_missing_queue_is_not_retried_and_is_named_in_the_error() -> None:
    async def scenario(stage: Stage) -> None:
        await stage.client.delete(stage.topology)
        till = stage.worker("till")
        stage.start(till)
        with pytest.raises(UnsafeTopology, match=r"toy\.till does not exist. Declare the topology first"):
            await asyncio.wait_for(stage.tasks.pop(till), 1.0)

    run_scenario(scenario)


# --- the whole flow -------------------------------------------------------------------------------------------------------


class FailingBackend:
    """An in-memory backend whose databases fail one transaction in four, in each of four ways."""

    FAILURES = (did_commit, did_not_commit, is_unavailable, conflicts)

    def __init__(self, mode: Mode, seed: int) -> None:
        self._backend = MemoryBackend(mode, seed)
        self._rng = random.Random(seed)
        self.failed = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def store(self, worker: str) -> Store:
        return _FailingStore(self._backend.store(worker), self)  # type: ignore[return-value]

    def next_failure(self) -> Fail | None:
        if self._rng.random() > 0.25:
            return None
        self.failed += 1
        return self._rng.choice(self.FAILURES)


class _FailingStore:
    def __init__(self, store: Store, backend: FailingBackend) -> None:
        self._store = store
        self._backend = backend

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def transact(self, work: Work[Any]) -> Any:
        fail = self._backend.next_failure()
        return await (fail(self._store, work) if fail else self._store.transact(work))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ["happy", "last-unit", "undeliverable", "gateway-hangs", "payment-down"])
def test_journey_ends_the_same_on_failing_databases(name: str, mode: Mode) -> None:
    failed = 0
    for seed in range(4):

        async def play(system: System) -> int:
            judge(name, mode, await played(JOURNEYS[name], system))
            assert isinstance(system.backend, FailingBackend)
            return system.backend.failed

        failed += in_memory(mode, play, lambda mode: FailingBackend(mode, seed))  # noqa: B023 - used at once
    assert failed > 0


@pytest.mark.parametrize("mode", MODES)
def test_recording_an_injected_fault_waits_for_the_database(mode: Mode) -> None:
    """The record is written outside the commit: a database outage must not stop the worker."""

    async def play(system: System) -> None:
        store = system.stores["inventory"] = SwitchableStore(system.stores["inventory"])  # type: ignore[assignment]
        await system.stop("inventory")
        await system.start("inventory")
        run = JourneyRun(system)
        await asyncio.sleep(1.0)
        store.is_on = False  # type: ignore[attr-defined]
        await run.place({"book": 1}, "inventory:late")
        await asyncio.sleep(3.0)
        store.is_on = True  # type: ignore[attr-defined]
        result = await run.result()
        assert result.ends == {"COMPLETED": 1}
        assert len(await system.stores["inventory"].find(INJECTED_COLLECTION)) == 1

    in_memory(mode, play)


ORDERS = 60
OUTAGES = 4


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("mode", MODES)
def test_repeated_broker_outages_under_load_lose_no_order(mode: Mode, seed: int) -> None:
    async def play(system: System) -> None:
        rng = random.Random(seed)
        broker, run = broker_of(system), JourneyRun(system)
        await set_up_stock(system.stores["inventory"], {"plenty": ORDERS - 10})
        outages = 0
        for number in range(ORDERS):
            await run.place({"plenty": 1}, *(["payment:pending"] if number % 3 else []))
            await asyncio.sleep(rng.uniform(0.0, 0.05))
            if number % (ORDERS // OUTAGES) == 7:
                broker.stop()
                await asyncio.sleep(rng.choice([0.001, 0.5, 7.0]))
                broker.start()
                outages += 1
        await all_orders_ended(run)
        result = await run.result()
        assert outages == OUTAGES
        assert sum(result.ends.values()) == ORDERS
        assert result.ends == {"COMPLETED": ORDERS - 10, "REJECTED out_of_stock": 10}
        assert result.audit.ok, result.audit.findings
        assert await all_dead_letters(system) == {}

    in_memory(mode, play)


async def all_orders_ended(run: JourneyRun) -> None:
    """Wait until all orders have ended, by the database: the subscription to events missed some during the outages."""

    async def ended() -> bool:
        orders = (await run.system.snapshot()).orders
        return all(order_id in orders and orders[order_id].ended for order_id in run.order_ids)

    await run.system.wait_until(ended, "every order to end", timeout_s=120.0)


def test_relay_publishes_after_an_outage_between_commit_and_publish() -> None:
    async def scenario(stage: Stage) -> None:
        till = stage.worker("till")
        stage.start(till, stage.worker("ledger"), stage.worker("bell"))
        await asyncio.sleep(1.0)
        await stage.put_in(*[How.WELL] * 10)
        await stage.until(lambda: len(stage.databases["till"].outbox) == 10, "the batch was committed")
        stage.broker.stop()
        published = type_names(stage.published)["till.WasPutIn"]
        await asyncio.sleep(20.0)
        stage.broker.start()
        await stage.rest()
        assert published in (0, 10)
        assert await stage.times("ledger") == {1: 10}

    run_scenario(scenario)
