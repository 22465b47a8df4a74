"""A worker's life: it stops in good order, its background tasks never die in silence, its waits and calls outlive it.

In memory, on virtual time.
"""

import asyncio
from typing import Any

import pytest
from structlog.testing import capture_logs

from lab.system import WorkerCrashed
from store.protocol import Store, StoreUnavailable
from tests.support.broker.fault_injection import FailingStore, Fence, fenced_transport
from tests.support.toy_service import How, Stage, on_stage, type_names


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


def test_stop_finishes_the_batch_in_hand_and_gives_the_rest_back() -> None:
    async def scene(stage: Stage) -> None:
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
        assert stage.databases["till"].outbox == {}, "what the broker has confirmed is removed before the end"
        stage.start_all()
        await stage.rest()
        for name in ("till", "ledger", "bell"):
            assert await stage.times(name) == {1: 15}

    on_stage(scene)


def test_an_idle_worker_stops_at_once() -> None:
    async def scene(stage: Stage) -> None:
        till = stage.worker("till")
        stage.start(till)
        await asyncio.sleep(1.0)
        began = stage.environment.now()
        await stage.stop(till)
        assert stage.environment.now() == began

    on_stage(scene)


def test_a_worker_that_is_stopped_before_it_runs_handles_nothing() -> None:
    async def scene(stage: Stage) -> None:
        await stage.put_in(How.WELL)
        till = stage.worker("till")
        till.stop()
        stage.start(till)
        await stage.tasks.pop(till)
        await till.transport.close()
        assert await stage.waiting("till") == 1

    on_stage(scene)


async def away(_: Store, __: Any) -> Any:
    raise StoreUnavailable("gone for good")


def test_a_worker_whose_database_does_not_come_back_can_be_stopped_and_loses_nothing() -> None:
    async def scene(stage: Stage) -> None:
        till = stage.worker("till", store=FailingStore(stage.store("till"), [away] * 1_000_000))
        await stage.put_in(*[How.WELL] * 10)
        stage.start(till)
        await asyncio.sleep(20.0)
        began = stage.environment.now()
        await stage.stop(till)
        assert stage.environment.now() == began, "it waited for the next attempt"
        assert await stage.waiting("till") == 10
        stage.start_all()
        await stage.rest()
        assert await stage.times("till") == {1: 10}

    on_stage(scene)


# --- background tasks -----------------------------------------------------------------------------------------------------


class Broken:
    """A store on which one kind of call raises what no store may raise."""

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
def test_an_idle_worker_does_not_outlive_its_watch_or_relay(call: str) -> None:
    """Nothing arrives, so the loop waits; it must notice all the same."""

    async def scene(stage: Stage) -> None:
        till = stage.worker("till", store=Broken(stage.store("till"), call, ZeroDivisionError("a bug")))
        stage.start(till)
        with pytest.raises(ZeroDivisionError):
            await asyncio.wait_for(stage.tasks.pop(till), 5.0)

    on_stage(scene)


@pytest.mark.parametrize("call", ["due", "pending_outbox"])
def test_a_background_task_that_somebody_else_cancels_takes_the_worker_down(call: str) -> None:
    """A library did that once when its connection was lost: CancelledError came out of a plain call."""

    async def scene(stage: Stage) -> None:
        till = stage.worker("till", store=Broken(stage.store("till"), call, asyncio.CancelledError()))
        stage.start(till)
        task = stage.tasks.pop(till)
        with pytest.raises(RuntimeError, match="cancelled from outside"):
            await asyncio.wait_for(task, 5.0)

    on_stage(scene)


def test_a_worker_that_goes_down_gives_back_what_it_had() -> None:
    async def scene(stage: Stage) -> None:
        till = stage.worker("till", store=Broken(stage.store("till"), "transact", ZeroDivisionError("a bug")))
        await stage.put_in(*[How.WELL] * 10)
        stage.start(till)
        with pytest.raises(ZeroDivisionError):
            await stage.tasks.pop(till)
        await till.transport.close()
        assert await stage.waiting("till") == 10

    on_stage(scene)


# --- waits ----------------------------------------------------------------------------------------------------------------


def test_a_wait_is_over_when_its_time_has_come_and_not_before() -> None:
    async def scene(stage: Stage) -> None:
        stage.start_all()
        began = stage.environment.now()
        await stage.put_in(How.WAITS)
        await stage.until(lambda: type_names(stage.published)["till.WasPutIn"] == 2, "it was woken")
        assert 1.0 <= stage.environment.now() - began <= 1.0 + 2 * stage.limits.timer_interval_s
        await stage.rest()
        assert [till.woken for till in (await stage.tills()).values()] == [1]

    on_stage(scene)


def test_a_wait_outlives_the_worker_that_began_it() -> None:
    async def scene(stage: Stage) -> None:
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

    on_stage(scene)


def test_a_handler_that_raises_at_a_local_input_is_heard_of_and_costs_only_itself() -> None:
    """There is nothing to put aside, so the wait stays and the watch brings it again; but never in silence."""

    async def scene(stage: Stage) -> None:
        stage.start_all()
        with capture_logs() as logs:
            ids = await stage.put_in(How.WAITS_BADLY, How.WAITS, How.WELL)
            await asyncio.sleep(3.0)
        tills = await stage.tills()
        assert tills[ids[1]].woken == 1
        assert tills[ids[0]].woken == 0
        assert tills[ids[0]].due_at is not None, "the wait was forgotten"
        said = [line for line in logs if line.get("order_id") == ids[0] and line["log_level"] in ("warning", "error")]
        assert said, "nobody heard of it"
        assert "ArithmeticError" in str(said[0])

    on_stage(scene)


def test_what_a_message_caused_says_so() -> None:
    """Causation, for a message that came over the wire and for a wait that it began."""

    async def scene(stage: Stage) -> None:
        stage.start_all()
        wire = stage.wire(How.WAITS)
        await stage.send(wire)
        await stage.rest()
        events = [published for published in stage.published if published.type == "till.WasPutIn"]
        assert [event.headers.get("causation_id") for event in events] == [wire.message_id, wire.message_id]

    on_stage(scene)
