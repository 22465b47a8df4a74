"""Two replicas of every worker side by side: every order ends once, and the books agree.

Inventory's replicas take turns (single active consumer), the others share their queue; a write conflict is retried, never seen.
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
    MODES,
    UNHURRIED,
    Servers,
    all_dead_letters,
    finish,
    in_memory,
    on_real_parts,
    replica_name,
    start_replica,
)

ORDERS = 120
#: What every fifth order brings, and how it then ends.
FAILURES = {
    "payment:declined": "payment_declined",
    "delivery:undeliverable": "undeliverable",
    "inventory:out_of_stock": "out_of_stock",
}
ENDS = {"COMPLETED": 48} | {f"REJECTED {reason}": 24 for reason in FAILURES.values()}


async def many_orders(system: System, between: Callable[[int], Any] = lambda _: None) -> None:
    """Over a hundred orders of five kinds, handled by two of each worker. `between` is called after each is placed."""
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


class CountingParts:
    """`bootstrap.backend.Backend` in memory that counts the batches of each client."""

    def __init__(self, mode: Mode) -> None:
        self._backend = MemoryBackend(mode)
        self.fences: dict[str, list[Fence]] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def transport(self, worker: str) -> Transport:
        self.fences.setdefault(worker, []).append(Fence())
        return fenced_transport(self._backend.transport(worker), self.fences[worker][-1])


@pytest.mark.parametrize("mode", MODES)
def test_two_of_every_worker_end_a_hundred_orders_once(mode: Mode) -> None:
    async def play(system: System) -> None:
        await many_orders(system)
        backend = system.backend
        assert isinstance(backend, CountingParts)
        for worker in roles(mode):
            one, other = (fence.calls["ack"] for fence in backend.fences[worker])
            if worker == "inventory":
                assert one > 0
                assert other == 0, "only one replica of inventory is active"
            else:
                assert one > 0, f"the first {worker} did nothing"
                assert other > 0, f"the replica of {worker} did nothing"

    in_memory(mode, play, CountingParts)


async def one_of_each_stops(system: System) -> None:
    """Two of each worker; in the middle of the orders the first of each is stopped, and the other goes on alone."""
    await set_up_stock(system.stores["inventory"], {"plenty": ORDERS})
    for worker in roles(system.mode):
        await start_replica(system, worker)
    run = JourneyRun(system)
    for number in range(ORDERS):
        await run.place({"plenty": 1})
        if number == ORDERS // 2:
            assert not all(run.has_ended(order_id) for order_id in run.order_ids), "all was over: nothing was in hand"
            for worker in roles(system.mode):
                await system.stop(worker)
    await finish(run)
    assert set(system.running) == {replica_name(worker) for worker in roles(system.mode)}
    result = await run.result()
    assert result.ends == {"COMPLETED": ORDERS}
    assert result.audit.ok, result.audit.findings
    assert await all_dead_letters(system) == {}


@pytest.mark.parametrize("mode", MODES)
def test_a_replica_takes_over_from_one_that_stops(mode: Mode) -> None:
    in_memory(mode, one_of_each_stops)


@pytest.mark.real
def test_a_replica_takes_over_from_one_that_stops_on_real_parts(mode: Mode, real: Servers, prefix: str) -> None:
    on_real_parts(mode, real.backend(prefix, UNHURRIED), one_of_each_stops)


@pytest.mark.real
def test_two_of_every_worker_end_a_hundred_orders_once_on_real_parts(mode: Mode, real: Servers, prefix: str) -> None:
    on_real_parts(mode, real.backend(prefix, UNHURRIED), many_orders)
