"""The database or the broker goes away, or leaves the outcome of a commit in doubt: the worker waits, looks, and goes on.

In memory, on virtual time.
"""

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
from tests.support.toy_service import How, Stage, on_stage, type_names

Fail = Callable[[Store, Work[Any]], Awaitable[Any]]


async def did_commit(store: Store, work: Work[Any]) -> Any:
    await store.transact(work)
    raise OutcomeUnknown("the answer was lost")


async def did_not_commit(_: Store, __: Work[Any]) -> Any:
    raise OutcomeUnknown("the question was lost")


class CommitsLate:
    """In doubt now, and the server carries it out a second later, as it was decided."""

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
        raise OutcomeUnknown("the answer is late")


async def is_away(_: Store, __: Work[Any]) -> Any:
    raise StoreUnavailable("no server")


async def conflicts(_: Store, __: Work[Any]) -> Any:
    raise WriteConflict("others were faster, again and again")


@pytest.mark.parametrize("fail", [did_commit, did_not_commit, is_away, conflicts], ids=lambda fail: fail.__name__)
@pytest.mark.parametrize("times", [1, 5])
def test_a_commit_that_fails_is_tried_until_its_outcome_is_known_and_has_its_effect_once(fail: Fail, times: int) -> None:
    async def scene(stage: Stage) -> None:
        store = FailingStore(stage.store("till"), [fail] * times)
        stage.start(stage.worker("till", store=store), stage.worker("ledger"), stage.worker("bell"))
        await stage.put_in(*[How.WELL] * 20)
        await stage.rest()
        assert not store.fails, "it never failed"
        for name in ("till", "ledger", "bell"):
            assert await stage.times(name) == {1: 20}
            assert stage.dead(name) == []

    on_stage(scene)


def test_what_was_committed_in_doubt_is_published_as_soon_as_that_is_known() -> None:
    """Not only when the relay finds rows that are owed for long."""

    async def scene(stage: Stage) -> None:
        store = FailingStore(stage.store("till"), [did_commit])
        stage.start(stage.worker("till", store=store))
        await asyncio.sleep(0.5)
        began = stage.environment.now()
        await stage.put_in(*[How.WELL] * 20)
        await stage.until(lambda: type_names(stage.published)["till.WasPutIn"] == 20, "all events were published")
        assert stage.environment.now() - began < stage.limits.relay_interval_s
        stage.start(stage.worker("ledger"), stage.worker("bell"))
        await stage.rest()
        assert type_names(stage.published)["till.WasPutIn"] == 20

    on_stage(scene)


def test_nothing_is_acknowledged_while_the_commit_is_in_doubt() -> None:
    async def scene(stage: Stage) -> None:
        fence = Fence()
        store = FailingStore(stage.store("till"), [is_away] * 8)
        stage.start(stage.worker("till", transport=fenced_transport(stage.transport(), fence), store=store))
        stage.start(stage.worker("ledger"), stage.worker("bell"))
        await stage.put_in(*[How.WELL] * 20)
        await stage.until(lambda: len(store.fails) == 1, "the database was asked often")
        assert fence.calls["ack"] == 0
        assert fence.calls["publish"] == 0
        await stage.rest()
        assert await stage.times("till") == {1: 20}

    on_stage(scene)


def test_a_commit_carried_out_after_everybody_gave_it_up_has_its_effect_once() -> None:
    async def scene(stage: Stage) -> None:
        late = CommitsLate()
        store = FailingStore(stage.store("till"), [late])
        stage.start(stage.worker("till", store=store), stage.worker("ledger"), stage.worker("bell"))
        await stage.put_in(*[How.WELL] * 20)
        await stage.rest()
        with pytest.raises(DuplicateInput):  # the inbox keeps the late twin out
            await late.outcome
        await stage.rest()
        for name in ("till", "ledger", "bell"):
            assert await stage.times(name) == {1: 20}

    on_stage(scene)


class Switch:
    """A store that can be switched off for all its clients, as a server can."""

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


def test_a_database_that_is_away_pauses_the_worker_and_all_that_runs_beside_it() -> None:
    async def scene(stage: Stage) -> None:
        store = Switch(stage.store("till"))
        stage.start(stage.worker("till", store=store), stage.worker("ledger"), stage.worker("bell"))
        await stage.put_in(How.WAITS, How.WELL)
        await stage.until(lambda: len(stage.databases["ledger"].inbox) == 2, "both were heard of")
        store.is_on = False
        await stage.put_in(*[How.WELL] * 10)
        await asyncio.sleep(30.0)
        assert store.refused > 10
        assert await stage.times("till") == {1: 2}
        store.is_on = True
        began = stage.environment.now()
        await stage.rest()
        assert stage.environment.now() - began < 10.0, "it took long to notice"
        assert await stage.times("till") == {1: 12}
        assert sum(till.woken for till in (await stage.tills()).values()) == 1, "the wait outlived the outage"

    on_stage(scene)


def test_a_database_that_is_away_when_a_worker_starts_is_waited_for() -> None:
    async def scene(stage: Stage) -> None:
        store = Switch(stage.store("till"))
        store.is_on = False
        stage.start(stage.worker("till", store=store), stage.worker("ledger"), stage.worker("bell"))
        await stage.put_in(How.WELL)
        await asyncio.sleep(10.0)
        assert store.refused > 1
        store.is_on = True
        await stage.rest()
        assert await stage.times("till") == {1: 1}

    on_stage(scene)


def test_a_broker_that_is_away_when_a_worker_starts_is_waited_for() -> None:
    async def scene(stage: Stage) -> None:
        await stage.put_in(How.WELL)
        stage.broker.stop()
        stage.start_all()
        await asyncio.sleep(10.0)
        stage.broker.start()
        await stage.rest()
        assert await stage.times("bell") == {1: 1}

    on_stage(scene)


def test_a_worker_that_waits_for_its_database_can_be_stopped() -> None:
    async def scene(stage: Stage) -> None:
        store = Switch(stage.store("till"))
        store.is_on = False
        till = stage.worker("till", store=store)
        stage.start(till)
        await asyncio.sleep(5.0)
        began = stage.environment.now()
        await stage.stop(till)
        assert stage.environment.now() == began, "it waited for the next attempt"

    on_stage(scene)


class Unsafe(MemoryStore):
    async def open(self, _: object) -> None:
        raise UnsafeStore("no transactions here")


def test_an_unsafe_database_is_not_waited_for() -> None:
    async def scene(stage: Stage) -> None:
        till = stage.worker("till", store=Unsafe(stage.databases["till"]))
        stage.start(till)
        with pytest.raises(UnsafeStore):
            await asyncio.wait_for(stage.tasks.pop(till), 1.0)

    on_stage(scene)


def test_a_queue_that_is_not_there_is_not_waited_for_but_named_with_what_to_do() -> None:
    async def scene(stage: Stage) -> None:
        await stage.door.delete(stage.topology)
        till = stage.worker("till")
        stage.start(till)
        with pytest.raises(UnsafeTopology, match=r"toy\.till does not exist. Declare the topology first"):
            await asyncio.wait_for(stage.tasks.pop(till), 1.0)

    on_stage(scene)


# --- the whole flow -------------------------------------------------------------------------------------------------------


class FailingParts:
    """`bootstrap.backend.Backend` in memory whose databases fail one transaction in four, in every way there is."""

    WAYS = (did_commit, did_not_commit, is_away, conflicts)

    def __init__(self, mode: Mode, seed: int) -> None:
        self._backend = MemoryBackend(mode, seed)
        self._chance = random.Random(seed)
        self.failed = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def store(self, worker: str) -> Store:
        return _Moody(self._backend.store(worker), self)  # type: ignore[return-value]

    def mood(self) -> Fail | None:
        if self._chance.random() > 0.25:
            return None
        self.failed += 1
        return self._chance.choice(self.WAYS)


class _Moody:
    def __init__(self, store: Store, backend: FailingParts) -> None:
        self._store = store
        self._backend = backend

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def transact(self, work: Work[Any]) -> Any:
        fail = self._backend.mood()
        return await (fail(self._store, work) if fail else self._store.transact(work))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ["happy", "last-unit", "undeliverable", "gateway-hangs", "payment-down"])
def test_a_journey_ends_the_same_on_databases_that_fail_in_every_way(name: str, mode: Mode) -> None:
    failed = 0
    for seed in range(4):

        async def play(system: System) -> int:
            judge(name, mode, await played(JOURNEYS[name], system))
            assert isinstance(system.backend, FailingParts)
            return system.backend.failed

        failed += in_memory(mode, play, lambda mode: FailingParts(mode, seed))  # noqa: B023 - used at once
    assert failed > 0


@pytest.mark.parametrize("mode", MODES)
def test_a_note_of_an_injected_failure_waits_for_its_database(mode: Mode) -> None:
    """The note is written outside the commit: a database that is away must not take the worker down."""

    async def play(system: System) -> None:
        store = system.stores["inventory"] = Switch(system.stores["inventory"])  # type: ignore[assignment]
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
def test_a_broker_that_goes_down_again_and_again_under_load_loses_no_order(mode: Mode, seed: int) -> None:
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
        await every_end(run)
        result = await run.result()
        assert outages == OUTAGES
        assert sum(result.ends.values()) == ORDERS
        assert result.ends == {"COMPLETED": ORDERS - 10, "REJECTED out_of_stock": 10}
        assert result.audit.ok, result.audit.findings
        assert await all_dead_letters(system) == {}

    in_memory(mode, play)


async def every_end(run: JourneyRun) -> None:
    """Of all orders. The tap that hears events was away during the outages, so the order service's database is asked."""

    async def ended() -> bool:
        orders = (await run.system.snapshot()).orders
        return all(order_id in orders and orders[order_id].ended for order_id in run.order_ids)

    await run.system.wait_until(ended, "every order to end", timeout_s=120.0)


def test_an_outage_between_commit_and_publish_leaves_it_to_the_relay() -> None:
    async def scene(stage: Stage) -> None:
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

    on_stage(scene)
