"""A worker dies between any two steps: nothing is lost, nothing is doubled, once another starts on the same database and broker.

First the points that have names, on the toy; then the whole order flow, with a crash at every single call
that any worker makes to the broker or its database.
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
from tests.support.toy_service import How, Stage, on_stage, type_names

#: Where a worker dies -> what its successor finds: inputs that come again, and outcomes that are owed.
POINTS = {
    "before the commit": ("transact", When.BEFORE),
    "after the commit, before it knows of it": ("transact", When.AFTER),
    "after the commit, before the acknowledgement": ("ack", When.BEFORE),
    "after the acknowledgement, before the publish": ("publish", When.BEFORE),
    "after the publish, before the confirms": ("publish", When.AFTER),
    "before the removal from the outbox": ("delete_published", When.BEFORE),
    "after the removal from the outbox": ("delete_published", When.AFTER),
}


async def crashed_till(stage: Stage, fence: Fence) -> None:
    """Run the till until it dies, and see that it does."""
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
        await crashed_till(stage, fence)
        assert fence.crashed == 1
        stage.start_all()
        await stage.rest()
        for name in ("till", "ledger", "bell"):
            assert await stage.times(name) == {1: 20}
            assert stage.dead(name) == []

    on_stage(scene)


def test_after_the_commit_the_inputs_come_again_and_meet_the_inbox() -> None:
    async def scene(stage: Stage) -> None:
        await stage.put_in(*[How.WELL] * 20)
        await crashed_till(stage, Fence(crash_once("ack", When.BEFORE)))
        assert len(stage.databases["till"].outbox) == 20
        assert await stage.waiting("till") == 20
        assert type_names(stage.published)["till.WasPutIn"] == 0
        stage.start_all()
        await stage.rest()
        assert type_names(stage.published)["till.WasPutIn"] == 20, "the outbox owed them, and once each is enough"
        assert await stage.times("till") == {1: 20}

    on_stage(scene)


def test_after_the_acknowledgement_nothing_comes_again_and_the_relay_publishes_what_is_owed() -> None:
    async def scene(stage: Stage) -> None:
        await stage.put_in(*[How.WELL] * 20)
        await crashed_till(stage, Fence(crash_once("publish", When.BEFORE)))
        assert await stage.waiting("till") == 0
        assert len(stage.databases["till"].outbox) == 20
        await asyncio.sleep(0.01)  # a new process takes its time to start
        began = stage.environment.now()
        stage.start_all()
        await stage.until(lambda: type_names(stage.published)["till.WasPutIn"] == 20, "the relay has published all")
        assert stage.environment.now() - began < 0.1, "a new worker looks at once, at rows of any age"
        await stage.rest()
        assert stage.databases["till"].outbox == {}

    on_stage(scene)


def test_after_the_publish_the_twins_are_dropped_by_whoever_hears_them() -> None:
    async def scene(stage: Stage) -> None:
        await stage.put_in(*[How.WELL] * 20)
        await crashed_till(stage, Fence(crash_once("publish", When.AFTER)))
        assert await stage.waiting("ledger") == 20
        stage.start_all()
        await stage.rest()
        assert type_names(stage.published)["till.WasPutIn"] == 40, "published again, because nobody knew"
        assert await stage.times("ledger") == {1: 20}
        assert await stage.times("bell") == {1: 20}

    on_stage(scene)


class HalfPublished:
    """A transport whose worker dies with half of a batch written."""

    def __init__(self, transport: MemoryTransport) -> None:
        self._transport = transport

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    async def publish(self, outgoing: list[Outgoing]) -> list[Receipt]:
        await self._transport.publish(outgoing[: len(outgoing) // 2])
        self._transport.crash()
        raise WorkerCrashed


def test_a_batch_of_which_half_was_published_arrives_whole() -> None:
    async def scene(stage: Stage) -> None:
        await stage.put_in(*[How.WELL] * 20)
        till = stage.worker("till", transport=HalfPublished(stage.transport()))
        stage.start(till)
        with pytest.raises(WorkerCrashed):
            await stage.tasks.pop(till)
        assert await stage.waiting("ledger") == 10
        stage.start_all()
        await stage.rest()
        assert await stage.times("ledger") == {1: 20}
        assert type_names(stage.published)["till.WasPutIn"] == 30

    on_stage(scene)


def test_a_crash_between_the_copy_put_aside_and_the_acknowledgement_handles_the_message_once() -> None:
    """Both the copy and the original are there afterwards; whichever comes first has its effect."""

    async def scene(stage: Stage) -> None:
        await stage.put_in(How.RAISES, How.WELL)
        await crashed_till(stage, Fence(crash_once("publish", When.AFTER)))
        stage.start_all()
        await stage.rest()
        assert await stage.times("till") == {1: 1}
        assert set(stage.dead("till")) == {("attempts_exhausted", 5)}

    on_stage(scene)


# --- the whole flow -------------------------------------------------------------------------------------------------------


class CrashingParts:
    """`bootstrap.backend.Backend` in memory, in which one worker dies once, at its call number `call`; its successor lives."""

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
        self.fence.is_down = False  # whoever asks is a new process; nothing is left of the old one
        if not self._armed:  # what came before was the system's own
            self.fence.names.clear()
            self._armed = True
        return fenced_transport(transport, self.fence)

    def store(self, worker: str) -> Store:
        store = self._backend.store(worker)
        return fenced_store(store, self.fence) if worker == self._victim else store


#: All the way forward and all the way back, for every worker; and what payment waits for.
SWEPT = [(name, mode, worker) for name in ("happy", "undeliverable") for mode in MODES for worker in roles(mode)]
SWEPT += [("gateway-hangs", mode, "payment") for mode in MODES]
#: No worker makes more calls in these journeys before it idles; an idle one looks at its outbox and its waits for ever.
CALLS_MAX = 30


@pytest.mark.parametrize(("name", "mode", "victim"), SWEPT)
def test_an_order_ends_the_same_wherever_one_of_its_workers_dies(name: str, mode: Mode, victim: str) -> None:
    async def play(system: System) -> tuple[Verdict, Fence]:
        verdict = await played(JOURNEYS[name], system)
        assert isinstance(system.backend, CrashingParts)
        return verdict, system.backend.fence

    died_at = set()
    for call in range(1, CALLS_MAX):
        fell = 0
        for when in When:
            verdict, fence = in_memory(mode, play, lambda mode: CrashingParts(mode, victim, call, when))  # noqa: B023 - used at once
            judge(name, mode, verdict)
            fell += fence.crashed
            died_at |= {fence.names[call - 1]} if fence.crashed else set()
        if not fell:
            break
    assert died_at >= {"transact", "ack", "publish"}, "it did not die where it matters"
