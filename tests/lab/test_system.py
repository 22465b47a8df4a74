"""The system that journeys run on starts, stops, kills and restarts workers."""

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


class CountingBackend:
    """An in-memory back end that counts the gateway clients it opens and closes."""

    def __init__(self, mode: Mode) -> None:
        self._backend = MemoryBackend(mode)
        self.opened = 0
        self.closed = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def gateway(self) -> "CountedGateway":
        self.opened += 1
        return CountedGateway(self._backend.gateway(), self)


class CountedGateway:
    def __init__(self, gateway: InProcessGateway, backend: CountingBackend) -> None:
        self._gateway = gateway
        self._backend = backend

    def __getattr__(self, name: str) -> Any:
        return getattr(self._gateway, name)

    async def close(self) -> None:
        self._backend.closed += 1


@pytest.mark.parametrize("mode", MODES)
def test_the_clients_of_a_crashed_worker_are_closed(mode: Mode) -> None:
    backends: list[CountingBackend] = []

    def backend(mode: Mode) -> CountingBackend:
        backends.append(CountingBackend(mode))
        return backends[-1]

    async def play(system: System) -> None:
        run = JourneyRun(system)
        await run.place({"book": 1}, "payment:crash")
        assert (await run.result()).ends == {"COMPLETED": 1}

    in_memory(mode, play, backend)
    assert backends[0].opened == len(roles(mode)) + 1
    assert backends[0].closed == backends[0].opened


@pytest.mark.parametrize("mode", MODES)
def test_a_worker_stopped_while_it_crashes_is_not_restarted(mode: Mode) -> None:
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


class LossyBackend:
    """An in-memory back end that loses the first publish of OrderCompleted and reports it as unconfirmed."""

    def __init__(self, mode: Mode) -> None:
        self._backend = MemoryBackend(mode)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def transport(self, worker: str) -> "LossyTransport":
        return LossyTransport(self._backend.transport(worker))


class LossyTransport:
    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._has_lost = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    async def publish(self, outgoing: Sequence[Outgoing]) -> list[Receipt]:
        if not self._has_lost and any(item.wire.type == OrderCompleted.type_name for item in outgoing):
            self._has_lost = True
            return [Receipt.UNKNOWN] * len(outgoing)
        return list(await self._transport.publish(outgoing))


@pytest.mark.parametrize("mode", MODES)
def test_a_system_with_outbox_rows_is_not_idle(mode: Mode) -> None:
    """The order has ended in its database, but its event is still in the outbox."""

    async def play(system: System) -> None:
        run = JourneyRun(system)
        order_id = await run.place({"book": 1})
        await system.wait_until_idle()
        assert run.has_event(order_id, OrderCompleted)

    in_memory(mode, play, LossyBackend)


@pytest.mark.parametrize("mode", MODES)
def test_a_timeout_names_the_awaited_condition(mode: Mode) -> None:
    async def play(system: System) -> None:
        with pytest.raises(TimeoutError, match=f"{mode}: waited 60.0 s for a condition"):
            await system.wait_until(lambda: False, "a condition")

    in_memory(mode, play)


@pytest.mark.parametrize("mode", MODES)
def test_a_wait_raises_the_error_of_a_failed_worker(mode: Mode) -> None:
    async def play(system: System) -> None:
        system.running["payment"].task.cancel()
        await asyncio.sleep(0)

        async def fails() -> None:
            raise ZeroDivisionError("a bug")

        system.running["payment"].task = asyncio.ensure_future(fails())
        with pytest.raises(ZeroDivisionError):
            await system.wait_until(lambda: False, "a condition that never holds")
        del system.running["payment"]

    in_memory(mode, play)


@pytest.mark.parametrize("mode", MODES)
def test_a_killed_worker_does_nothing_until_it_is_started(mode: Mode) -> None:
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
def test_messages_of_a_killed_worker_are_redelivered_and_count_once(mode: Mode) -> None:
    async def play(system: System) -> None:
        for turns in range(0, 30, 3):  # ten books are in stock
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
def test_a_crashed_worker_can_be_killed_before_its_restart(mode: Mode) -> None:
    async def play(system: System) -> None:
        system.restart_delay_s = 5.0
        run = JourneyRun(system)
        await run.place({"book": 1}, "inventory:crash")
        await system.wait_until(lambda: not system.is_up("inventory"), "the crash")
        await system.wait_until(lambda: system.is_up("inventory"), "the restart")
        await run.place({"book": 1}, "inventory:crash")
        await system.wait_until(lambda: not system.is_up("inventory"), "the crash")
        await system.kill("inventory")
        await asyncio.sleep(10)
        assert not system.is_up("inventory")
        await system.start("inventory")
        assert (await run.result()).ends == {"COMPLETED": 2}

    in_memory(mode, play)
