"""Lifecycle of a worker: shutdown, failing background tasks, timers that survive it. In memory, on virtual time."""

import asyncio
from typing import Any

import pytest
from structlog.testing import capture_logs

from lab.system import WorkerCrashed
from store.protocol import Store, StoreUnavailable
from tests.support.broker.fault_injection import FailingStore, Fence, fenced_transport
from tests.support.toy_service import How, Stage, run_scenario, type_names


class SlowStore:
    """A store whose commits take a second."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.committing = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def transact(self, work: Any) -> Any:
        self.committing.set()
        await asyncio.sleep(1.0)
        return await self._store.transact(work)


def test_stop_finishes_the_batch_and_returns_other_deliveries() -> None:
    async def scenario(stage: Stage) -> None:
        store, fence = SlowStore(stage.store("till")), Fence()
        transport = fenced_transport(stage.transport(), fence)
        till = stage.worker("till", transport=transport, store=store)
        await stage.put_in(*[How.WELL] * 10)
        stage.start(till)
        await store.committing.wait()
        await stage.put_in(*[How.WELL] * 5)
        await asyncio.sleep(0.1)
        await stage.stop(till)
        assert await stage.times("till") == {1: 10}, "the batch in hand was not finished"
        assert type_names(stage.published)["till.WasPutIn"] == 10
        assert fence.calls["ack"] == 1
        assert await stage.waiting("till") == 5
        assert stage.databases["till"].outbox == {}, "confirmed rows are deleted before the end"
        stage.start_all()
        await stage.rest()
        for name in ("till", "ledger", "bell"):
            assert await stage.times(name) == {1: 15}

    run_scenario(scenario)


def test_idle_worker_stops_at_once() -> None:
    async def scenario(stage: Stage) -> None:
        till = stage.worker("till")
        stage.start(till)
        await asyncio.sleep(1.0)
        started_at = stage.environment.now()
        await stage.stop(till)
        assert stage.environment.now() == started_at

    run_scenario(scenario)


def test_worker_stopped_before_it_runs_handles_nothing() -> None:
    async def scenario(stage: Stage) -> None:
        await stage.put_in(How.WELL)
        till = stage.worker("till")
        till.stop()
        stage.start(till)
        await stage.tasks.pop(till)
        await till.transport.close()
        assert await stage.waiting("till") == 1

    run_scenario(scenario)


async def unavailable(_: Store, __: Any) -> Any:
    raise StoreUnavailable("unavailable")


def test_worker_can_be_stopped_during_a_database_outage() -> None:
    async def scenario(stage: Stage) -> None:
        till = stage.worker("till", store=FailingStore(stage.store("till"), [unavailable] * 1_000_000))
        await stage.put_in(*[How.WELL] * 10)
        stage.start(till)
        await asyncio.sleep(20.0)
        started_at = stage.environment.now()
        await stage.stop(till)
        assert stage.environment.now() == started_at, "it waited for the next attempt"
        assert await stage.waiting("till") == 10
        stage.start_all()
        await stage.rest()
        assert await stage.times("till") == {1: 10}

    run_scenario(scenario)


# --- background tasks -----------------------------------------------------------------------------------------------------


class BrokenStore:
    """A store on which one method raises an error that no store may raise."""

    def __init__(self, store: Store, call: str, error: BaseException) -> None:
        self._store = store
        self._call = call
        self._error = error

    def __getattr__(self, name: str) -> Any:
        if name != self._call:
            return getattr(self._store, name)

        async def breaks(*_: Any) -> Any:
            raise self._error

        return breaks


@pytest.mark.parametrize("call", ["due", "pending_outbox"])
def test_idle_worker_stops_when_its_timers_or_relay_fail(call: str) -> None:
    """The loop is waiting for an input, and must notice the failure."""

    async def scenario(stage: Stage) -> None:
        till = stage.worker("till", store=BrokenStore(stage.store("till"), call, ZeroDivisionError("a bug")))
        stage.start(till)
        with pytest.raises(ZeroDivisionError):
            await asyncio.wait_for(stage.tasks.pop(till), 5.0)

    run_scenario(scenario)


@pytest.mark.parametrize("call", ["due", "pending_outbox"])
def test_cancelled_background_task_stops_the_worker(call: str) -> None:
    """A client library has raised CancelledError from an ordinary call when its connection was lost."""

    async def scenario(stage: Stage) -> None:
        till = stage.worker("till", store=BrokenStore(stage.store("till"), call, asyncio.CancelledError()))
        stage.start(till)
        task = stage.tasks.pop(till)
        with pytest.raises(RuntimeError, match="cancelled from outside"):
            await asyncio.wait_for(task, 5.0)

    run_scenario(scenario)


def test_failed_worker_returns_its_deliveries() -> None:
    async def scenario(stage: Stage) -> None:
        till = stage.worker("till", store=BrokenStore(stage.store("till"), "transact", ZeroDivisionError("a bug")))
        await stage.put_in(*[How.WELL] * 10)
        stage.start(till)
        with pytest.raises(ZeroDivisionError):
            await stage.tasks.pop(till)
        await till.transport.close()
        assert await stage.waiting("till") == 10

    run_scenario(scenario)


# --- timers ---------------------------------------------------------------------------------------------------------------


def test_timer_fires_when_it_is_due() -> None:
    async def scenario(stage: Stage) -> None:
        stage.start_all()
        started_at = stage.environment.now()
        await stage.put_in(How.WAITS)
        await stage.until(lambda: type_names(stage.published)["till.WasPutIn"] == 2, "the timer has fired")
        assert 1.0 <= stage.environment.now() - started_at <= 1.0 + 2 * stage.limits.timer_interval_s
        await stage.rest()
        assert [till.woken for till in (await stage.tills()).values()] == [1]

    run_scenario(scenario)


def test_timer_survives_a_worker_crash() -> None:
    async def scenario(stage: Stage) -> None:
        fence = Fence(lambda *_: type_names(stage.published)["till.WasPutIn"] == 20)
        till = stage.worker("till", transport=fenced_transport(stage.transport(), fence))
        await stage.put_in(*[How.WAITS] * 20)
        stage.start(till)
        with pytest.raises(WorkerCrashed):
            await stage.tasks.pop(till)
        await asyncio.sleep(60.0)
        stage.start_all()
        await stage.rest()
        assert [till.woken for till in (await stage.tills()).values()] == [1] * 20

    run_scenario(scenario)


def test_failed_local_input_is_logged_and_fails_only_itself() -> None:
    """There is no message to republish, so the timer stays and fires again. Each failure is logged."""

    async def scenario(stage: Stage) -> None:
        stage.start_all()
        with capture_logs() as logs:
            ids = await stage.put_in(How.WAITS_BADLY, How.WAITS, How.WELL)
            await asyncio.sleep(3.0)
        tills = await stage.tills()
        assert tills[ids[1]].woken == 1
        assert tills[ids[0]].woken == 0
        assert tills[ids[0]].due_at is not None, "the timer was cleared"
        logged = [line for line in logs if line.get("order_id") == ids[0] and line["log_level"] in ("warning", "error")]
        assert logged, "the failure was not logged"
        assert "ArithmeticError" in str(logged[0])

    run_scenario(scenario)


def test_events_carry_the_id_of_their_cause() -> None:
    """Causation, for a delivered message and for the timer that it set."""

    async def scenario(stage: Stage) -> None:
        stage.start_all()
        wire = stage.wire(How.WAITS)
        await stage.send(wire)
        await stage.rest()
        events = [published for published in stage.published if published.type == "till.WasPutIn"]
        assert [event.headers.get("causation_id") for event in events] == [wire.message_id, wire.message_id]

    run_scenario(scenario)
