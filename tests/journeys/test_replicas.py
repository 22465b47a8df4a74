"""Two replicas of every worker: every order ends once, and the audit finds nothing.

One of inventory's replicas is active (single active consumer), those of other workers share their queue; write conflicts are
retried.
"""

from collections.abc import Callable
from typing import Any

import pytest

from bootstrap.memory_backend import MemoryBackend
from bootstrap.modes import Mode, roles
from broker.transport import Transport
from lab.journeys.run import JourneyRun
from lab.system import System, set_up_stock
from tests.support.broker.fault_injection import Fence, fenced_transport
from tests.support.system import (
    LONG_TIMEOUTS,
    MODES,
    Servers,
    all_dead_letters,
    finish,
    in_memory,
    on_servers,
    replica_name,
    start_replica,
)

ORDERS = 120
#: Failure -> the reason with which its orders are rejected; each failure is carried by every fifth order.
FAILURES = {
    "payment:declined": "payment_declined",
    "delivery:undeliverable": "undeliverable",
    "inventory:out_of_stock": "out_of_stock",
}
ENDS = {"COMPLETED": 48} | {f"REJECTED {reason}": 24 for reason in FAILURES.values()}


async def many_orders(system: System, between: Callable[[int], Any] = lambda _: None) -> None:
    """Place ORDERS orders of five kinds with two replicas of each worker. `between` is called after each placement."""
    await set_up_stock(system.stores["inventory"], {"plenty": ORDERS})
    for worker in roles(system.mode):
        await start_replica(system, worker)
    run = JourneyRun(system)
    kinds = [(), (), *((failure,) for failure in FAILURES)]
    for number in range(ORDERS):
        await run.place({"plenty": 1}, *kinds[number % 5])
        between(number)
    await finish(run)
    result = await run.result()
    assert result.ends == ENDS
    assert result.audit.ok, result.audit.findings
    assert await all_dead_letters(system) == {}


class CountingBackend:
    """An in-memory back end that counts the calls of each transport."""

    def __init__(self, mode: Mode) -> None:
        self._backend = MemoryBackend(mode)
        self.fences: dict[str, list[Fence]] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def transport(self, worker: str) -> Transport:
        self.fences.setdefault(worker, []).append(Fence())
        return fenced_transport(self._backend.transport(worker), self.fences[worker][-1])


@pytest.mark.parametrize("mode", MODES)
def test_two_replicas_end_every_order_once(mode: Mode) -> None:
    async def play(system: System) -> None:
        await many_orders(system)
        backend = system.backend
        assert isinstance(backend, CountingBackend)
        for worker in roles(mode):
            one, other = (fence.calls["ack"] for fence in backend.fences[worker])
            if worker == "inventory":
                assert one > 0
                assert other == 0, "only one replica of inventory is active"
            else:
                assert one > 0, f"the first replica of {worker} handled nothing"
                assert other > 0, f"the second replica of {worker} handled nothing"

    in_memory(mode, play, CountingBackend)


async def stop_one_replica_of_each(system: System) -> None:
    """Run two replicas of each worker and stop the first of each in the middle of the orders."""
    await set_up_stock(system.stores["inventory"], {"plenty": ORDERS})
    for worker in roles(system.mode):
        await start_replica(system, worker)
    run = JourneyRun(system)
    for number in range(ORDERS):
        await run.place({"plenty": 1})
        if number == ORDERS // 2:
            assert not all(run.has_ended(order_id) for order_id in run.order_ids), "some orders must be in progress"
            for worker in roles(system.mode):
                await system.stop(worker)
    await finish(run)
    assert set(system.running) == {replica_name(worker) for worker in roles(system.mode)}
    result = await run.result()
    assert result.ends == {"COMPLETED": ORDERS}
    assert result.audit.ok, result.audit.findings
    assert await all_dead_letters(system) == {}


@pytest.mark.parametrize("mode", MODES)
def test_a_replica_takes_over_when_another_stops(mode: Mode) -> None:
    in_memory(mode, stop_one_replica_of_each)


@pytest.mark.real
def test_a_replica_takes_over_when_another_stops_on_servers(mode: Mode, real: Servers, prefix: str) -> None:
    on_servers(mode, real.backend(prefix, LONG_TIMEOUTS), stop_one_replica_of_each)


@pytest.mark.real
def test_two_replicas_end_every_order_once_on_servers(mode: Mode, real: Servers, prefix: str) -> None:
    on_servers(mode, real.backend(prefix, LONG_TIMEOUTS), many_orders)
