"""A worker crashes between any two steps: once it is restarted, nothing is lost and nothing is doubled.

First at named points, with the toy service; then in the whole order flow, at every call that a worker makes to the broker or its
database.
"""

import asyncio
from typing import Any

import pytest

from bootstrap.memory_backend import MemoryBackend
from bootstrap.modes import Mode, roles
from broker.memory.transport import MemoryTransport
from broker.transport import Outgoing, Receipt, Transport
from lab.journeys.catalogue import JOURNEYS
from lab.system import System, WorkerCrashed
from store.protocol import Store
from tests.support.broker.fault_injection import Fence, When, crash_once, fenced_store, fenced_transport
from tests.support.journey_checks import Verdict, judge, played
from tests.support.system import MODES, in_memory
from tests.support.toy_service import How, Stage, run_scenario, type_names

#: Where a worker crashes -> the call, and whether before or after it.
POINTS = {
    "before the commit": ("transact", When.BEFORE),
    "after the commit, before its result": ("transact", When.AFTER),
    "after the commit, before the acknowledgement": ("ack", When.BEFORE),
    "after the acknowledgement, before the publish": ("publish", When.BEFORE),
    "after the publish, before the confirms": ("publish", When.AFTER),
    "before the removal from the outbox": ("delete_published", When.BEFORE),
    "after the removal from the outbox": ("delete_published", When.AFTER),
}


async def run_till_until_crash(stage: Stage, fence: Fence) -> None:
    """Run the worker `till` until it crashes."""
    till = stage.worker(
        "till", transport=fenced_transport(stage.transport(), fence), store=fenced_store(stage.store("till"), fence)
    )
    stage.start(till)
    with pytest.raises(WorkerCrashed):
        await stage.tasks[till]
    stage.tasks.pop(till)


@pytest.mark.parametrize("point", POINTS)
def test_a_crash_loses_nothing_and_doubles_nothing(point: str) -> None:
    async def scene(stage: Stage) -> None:
        await stage.put_in(*[How.WELL] * 20)
        fence = Fence(crash_once(*POINTS[point]))
        await run_till_until_crash(stage, fence)
        assert fence.crashed == 1
        stage.start_all()
        await stage.rest()
        for name in ("till", "ledger", "bell"):
            assert await stage.times(name) == {1: 20}
            assert stage.dead(name) == []

    run_scenario(scene)


def test_a_crash_after_the_commit_redelivers_inputs_to_the_inbox() -> None:
    async def scene(stage: Stage) -> None:
        await stage.put_in(*[How.WELL] * 20)
        await run_till_until_crash(stage, Fence(crash_once("ack", When.BEFORE)))
        assert len(stage.databases["till"].outbox) == 20
        assert await stage.waiting("till") == 20
        assert type_names(stage.published)["till.WasPutIn"] == 0
        stage.start_all()
        await stage.rest()
        assert type_names(stage.published)["till.WasPutIn"] == 20, "the relay publishes each outbox row once"
        assert await stage.times("till") == {1: 20}

    run_scenario(scene)


def test_after_the_acknowledgement_the_relay_publishes_the_outbox() -> None:
    async def scene(stage: Stage) -> None:
        await stage.put_in(*[How.WELL] * 20)
        await run_till_until_crash(stage, Fence(crash_once("publish", When.BEFORE)))
        assert await stage.waiting("till") == 0
        assert len(stage.databases["till"].outbox) == 20
        await asyncio.sleep(0.01)  # the time that a new process takes to start
        started_at = stage.environment.now()
        stage.start_all()
        await stage.until(lambda: type_names(stage.published)["till.WasPutIn"] == 20, "the relay has published all")
        assert stage.environment.now() - started_at < 0.1, "a new worker relays at once, whatever the age of the rows"
        await stage.rest()
        assert stage.databases["till"].outbox == {}

    run_scenario(scene)


def test_messages_published_twice_are_dropped_by_their_receivers() -> None:
    async def scene(stage: Stage) -> None:
        await stage.put_in(*[How.WELL] * 20)
        await run_till_until_crash(stage, Fence(crash_once("publish", When.AFTER)))
        assert await stage.waiting("ledger") == 20
        stage.start_all()
        await stage.rest()
        assert type_names(stage.published)["till.WasPutIn"] == 40, "published again, because the confirms were lost"
        assert await stage.times("ledger") == {1: 20}
        assert await stage.times("bell") == {1: 20}

    run_scenario(scene)


class HalfPublishingTransport:
    """A transport whose worker crashes when half of a batch is published."""

    def __init__(self, transport: MemoryTransport) -> None:
        self._transport = transport

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    async def publish(self, outgoing: list[Outgoing]) -> list[Receipt]:
        await self._transport.publish(outgoing[: len(outgoing) // 2])
        self._transport.crash()
        raise WorkerCrashed


def test_a_half_published_batch_arrives_completely() -> None:
    async def scene(stage: Stage) -> None:
        await stage.put_in(*[How.WELL] * 20)
        till = stage.worker("till", transport=HalfPublishingTransport(stage.transport()))
        stage.start(till)
        with pytest.raises(WorkerCrashed):
            await stage.tasks.pop(till)
        assert await stage.waiting("ledger") == 10
        stage.start_all()
        await stage.rest()
        assert await stage.times("ledger") == {1: 20}
        assert type_names(stage.published)["till.WasPutIn"] == 30

    run_scenario(scene)


def test_a_crash_between_retry_and_acknowledgement_has_one_effect() -> None:
    """The original and its retry are both delivered afterwards; the first one has the effect."""

    async def scene(stage: Stage) -> None:
        await stage.put_in(How.RAISES, How.WELL)
        await run_till_until_crash(stage, Fence(crash_once("publish", When.AFTER)))
        stage.start_all()
        await stage.rest()
        assert await stage.times("till") == {1: 1}
        assert set(stage.dead("till")) == {("attempts_exhausted", 5)}

    run_scenario(scene)


# --- the whole flow -------------------------------------------------------------------------------------------------------


class CrashingBackend:
    """An in-memory back end in which one worker crashes once, before or after its call number `call`."""

    def __init__(self, mode: Mode, victim: str, call: int, when: When) -> None:
        self._backend = MemoryBackend(mode)
        self._victim = victim
        self.fence = Fence(lambda number, _, moment: self._armed and not self.fence.crashed and (number, moment) == (call, when))
        self._armed = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def transport(self, worker: str) -> Transport:
        transport = self._backend.transport(worker)
        if worker != self._victim:
            return transport
        self.fence.is_down = False  # a new transport means a new process
        if not self._armed:  # the calls before were made by the test's set-up
            self.fence.names.clear()
            self._armed = True
        return fenced_transport(transport, self.fence)

    def store(self, worker: str) -> Store:
        store = self._backend.store(worker)
        return fenced_store(store, self.fence) if worker == self._victim else store


#: Every forward step and every compensation, for every worker; and payment's timer.
SWEPT = [(name, mode, worker) for name in ("happy", "undeliverable") for mode in MODES for worker in roles(mode)]
SWEPT += [("gateway-hangs", mode, "payment") for mode in MODES]
#: More calls than any worker makes in these journeys before it is idle; an idle one keeps polling its outbox and timers.
CALLS_MAX = 30


@pytest.mark.parametrize(("name", "mode", "victim"), SWEPT)
def test_an_order_ends_the_same_wherever_a_worker_crashes(name: str, mode: Mode, victim: str) -> None:
    async def play(system: System) -> tuple[Verdict, Fence]:
        verdict = await played(JOURNEYS[name], system)
        assert isinstance(system.backend, CrashingBackend)
        return verdict, system.backend.fence

    crashed_at = set()
    for call in range(1, CALLS_MAX):
        crashes = 0
        for when in When:
            verdict, fence = in_memory(mode, play, lambda mode: CrashingBackend(mode, victim, call, when))  # noqa: B023 - used at once
            judge(name, mode, verdict)
            crashes += fence.crashed
            crashed_at |= {fence.names[call - 1]} if fence.crashed else set()
        if not crashes:
            break
    assert crashed_at >= {"transact", "ack", "publish"}, "the worker must crash at each of these calls"
