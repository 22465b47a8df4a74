"""The system that journeys run on: it starts, stops and replaces workers as processes would."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from bootstrap.in_process_gateway import InProcessGateway
from bootstrap.memory_backend import MemoryBackend
from bootstrap.modes import Mode, roles
from broker.transport import Outgoing, Receipt, Transport
from lab.journeys.run import JourneyRun
from lab.system import System
from services.order.messages import OrderCompleted
from tests.support.system import MODES, in_memory


class CountingParts:
    """`bootstrap.backend.Backend` in memory that knows which of its clients are open."""

    def __init__(self, mode: Mode) -> None:
        self._backend = MemoryBackend(mode)
        self.opened = 0
        self.closed = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def gateway(self) -> "Counted":
        self.opened += 1
        return Counted(self._backend.gateway(), self)


class Counted:
    def __init__(self, gateway: InProcessGateway, backend: CountingParts) -> None:
        self._gateway = gateway
        self._backend = backend

    def __getattr__(self, name: str) -> Any:
        return getattr(self._gateway, name)

    async def close(self) -> None:
        self._backend.closed += 1


@pytest.mark.parametrize("mode", MODES)
def test_the_clients_of_a_worker_that_crashed_are_closed_too(mode: Mode) -> None:
    made: list[CountingParts] = []

    def backend(mode: Mode) -> CountingParts:
        made.append(CountingParts(mode))
        return made[-1]

    async def play(system: System) -> None:
        run = JourneyRun(system)
        await run.place({"book": 1}, "payment:crash")
        assert (await run.result()).ends == {"COMPLETED": 1}

    in_memory(mode, play, backend)
    assert made[0].opened == len(roles(mode)) + 1
    assert made[0].closed == made[0].opened


@pytest.mark.parametrize("mode", MODES)
def test_a_worker_that_is_stopped_while_it_crashes_leaves_no_successor_behind(mode: Mode) -> None:
    async def play(system: System) -> None:
        for turns in range(30):
            await JourneyRun(system).place({"book": 1}, "inventory:crash")
            for _ in range(turns):
                await asyncio.sleep(0)
            await system.stop("inventory")
            assert "inventory" not in system.running
            left = [task for task in asyncio.all_tasks() if task.get_name().startswith("inventory")]
            assert not left, f"still running after {turns} turns: {left}"
            await system.start("inventory")

    in_memory(mode, play)


class SwallowingParts:
    """`bootstrap.backend.Backend` in memory in which the first publish of an order's end gets lost, and the publisher told so."""

    def __init__(self, mode: Mode) -> None:
        self._backend = MemoryBackend(mode)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def transport(self, worker: str) -> "Swallowing":
        return Swallowing(self._backend.transport(worker))


class Swallowing:
    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._swallowed = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    async def publish(self, outgoing: Sequence[Outgoing]) -> list[Receipt]:
        if not self._swallowed and any(item.wire.type == OrderCompleted.type_name for item in outgoing):
            self._swallowed = True
            return [Receipt.UNKNOWN] * len(outgoing)
        return list(await self._transport.publish(outgoing))


@pytest.mark.parametrize("mode", MODES)
def test_rest_means_that_nothing_is_owed_either(mode: Mode) -> None:
    """The order has ended in its database, but the event that says so is still in the outbox: that is not rest."""

    async def play(system: System) -> None:
        run = JourneyRun(system)
        order_id = await run.place({"book": 1})
        await system.wait_until_idle()
        assert run.has_event(order_id, OrderCompleted)

    in_memory(mode, play, SwallowingParts)


@pytest.mark.parametrize("mode", MODES)
def test_waiting_in_vain_says_what_was_waited_for(mode: Mode) -> None:
    async def play(system: System) -> None:
        with pytest.raises(TimeoutError, match=f"{mode}: waited 60.0 s for the moon"):
            await system.wait_until(lambda: False, "the moon")

    in_memory(mode, play)


@pytest.mark.parametrize("mode", MODES)
def test_whoever_waits_hears_of_a_worker_that_died(mode: Mode) -> None:
    async def play(system: System) -> None:
        system.running["payment"].task.cancel()
        await asyncio.sleep(0)

        async def breaks() -> None:
            raise ZeroDivisionError("a bug")

        system.running["payment"].task = asyncio.ensure_future(breaks())
        with pytest.raises(ZeroDivisionError):
            await system.wait_until(lambda: False, "something that will not happen any more")
        del system.running["payment"]

    in_memory(mode, play)


@pytest.mark.parametrize("mode", MODES)
def test_a_killed_worker_finishes_nothing_and_stays_away_until_it_is_started(mode: Mode) -> None:
    async def play(system: System) -> None:
        run = JourneyRun(system)
        await system.kill("payment")
        order_id = await run.place({"book": 1})
        await run.wait_for_queued_step(order_id, "payment")
        assert not system.is_up("payment")
        assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("payment")]
        await system.start("payment")
        assert system.is_up("payment")
        assert (await run.result()).ends == {"COMPLETED": 1}

    in_memory(mode, play)


@pytest.mark.parametrize("mode", MODES)
def test_what_a_killed_worker_had_in_hand_comes_again_and_counts_once(mode: Mode) -> None:
    async def play(system: System) -> None:
        for turns in range(0, 30, 3):  # ten books are on the shelf
            run = JourneyRun(system)
            await run.place({"book": 1})
            for _ in range(turns):
                await asyncio.sleep(0)
            await system.kill("inventory")
            await system.start("inventory")
            await system.wait_until_idle()
        result = await run.result()
        assert result.audit.ok
        assert {order.state.value for order in (await system.snapshot()).orders.values()} == {"COMPLETED"}

    in_memory(mode, play)


@pytest.mark.parametrize("mode", MODES)
def test_a_worker_that_crashed_may_be_away_for_a_while_and_may_be_killed_meanwhile(mode: Mode) -> None:
    async def play(system: System) -> None:
        system.restart_delay_s = 5.0
        run = JourneyRun(system)
        await run.place({"book": 1}, "inventory:crash")
        await system.wait_until(lambda: not system.is_up("inventory"), "the crash")
        await system.wait_until(lambda: system.is_up("inventory"), "its successor")
        await run.place({"book": 1}, "inventory:crash")
        await system.wait_until(lambda: not system.is_up("inventory"), "the crash")
        await system.kill("inventory")
        await asyncio.sleep(10)
        assert not system.is_up("inventory")
        await system.start("inventory")
        assert (await run.result()).ends == {"COMPLETED": 2}

    in_memory(mode, play)
