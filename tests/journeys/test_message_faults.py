"""Message failures (`error`, `crash`, `slow`, `duplicate`, `late`) at every service that offers them, in memory.

At payment, `error` and `slow` are failures of the gateway; an order service that fails on PlaceOrder never accepts the order.
Each test checks that its failure was triggered.
"""

import asyncio
from collections import Counter

import pytest

from bootstrap.modes import Mode
from broker.faults import MessageFault
from broker.loop.retry import FORWARD_ATTEMPTS
from broker.transport import Outgoing, Wire
from lab.journeys.run import JourneyResult, JourneyRun
from lab.system import System, set_up_stock
from orchestrator.saga import Phase
from services.faults import BUSINESS_FAULTS
from services.message_types import SERVICES
from tests.support.system import (
    LONG_TIMEOUTS,
    MODES,
    Servers,
    all_dead_letters,
    dead_letters,
    finish,
    in_memory,
    on_servers,
    published,
)

COMPLETED = {"COMPLETED": 1}
#: Failure -> the mode and service pairs that offer it as a message failure.
OFFERED = {
    fault: [(mode, service) for mode in MODES for service in SERVICES if fault not in BUSINESS_FAULTS.get(service, ())]
    for fault in MessageFault
}
#: The delay of a `late` step, in seconds (`LATE_FAULT_LEVEL` of the delay levels).
LATE_S = 2.0


async def with_failure(system: System, failure: str) -> tuple[JourneyResult, list[Outgoing]]:
    """Run one order with a failure and check that it was triggered."""
    messages = published(system)
    run = JourneyRun(system)
    order_id = await run.place({"book": 2}, failure)
    result = await run.result()
    assert result.snapshot.triggered_faults.get(failure) == {order_id}, f"{failure} was not triggered"
    assert result.audit.ok, result.audit.findings
    return result, messages


@pytest.mark.parametrize(("mode", "service"), OFFERED[MessageFault.CRASH])
def test_a_worker_that_crashes_is_restarted_and_the_order_completes(mode: Mode, service: str) -> None:
    async def crash(system: System) -> None:
        before = system.running[service].worker
        result, _ = await with_failure(system, f"{service}:crash")
        assert result.ends == COMPLETED
        assert system.running[service].worker is not before, "the worker must have been restarted"
        assert await all_dead_letters(system) == {}

    in_memory(mode, crash)


@pytest.mark.parametrize(("mode", "service"), OFFERED[MessageFault.SLOW])
def test_a_slow_step_completes_later(mode: Mode, service: str) -> None:
    async def slow(system: System) -> None:
        started_at = asyncio.get_running_loop().time()
        run = JourneyRun(system)
        order_id = await run.place({"book": 2}, f"{service}:slow")
        await run.wait_for_end(order_id)
        took_s = asyncio.get_running_loop().time() - started_at
        assert system.backend.limits.slow_s <= took_s < system.backend.limits.slow_s + 0.2
        assert (await run.result()).ends == COMPLETED

    in_memory(mode, slow)


@pytest.mark.parametrize(("mode", "service"), OFFERED[MessageFault.DUPLICATE])
def test_a_message_published_twice_has_one_effect(mode: Mode, service: str) -> None:
    async def duplicate(system: System) -> None:
        result, messages = await with_failure(system, f"{service}:duplicate")
        assert result.ends == COMPLETED
        copies = Counter(item.wire.message_id for item in messages if item.wire.app_id == service)
        others = Counter(item.wire.message_id for item in messages if item.wire.app_id != service)
        assert set(copies.values()) == {2}, "each message of the service must be published twice"
        assert set(others.values()) == {1}, "no other message may be published twice"

    in_memory(mode, duplicate)


@pytest.mark.parametrize(("mode", "service"), OFFERED[MessageFault.LATE])
def test_a_late_step_completes_later(mode: Mode, service: str) -> None:
    async def late(system: System) -> None:
        started_at = asyncio.get_running_loop().time()
        run = JourneyRun(system)
        order_id = await run.place({"book": 2}, f"{service}:late")
        await run.wait_for_end(order_id)
        assert LATE_S <= asyncio.get_running_loop().time() - started_at < LATE_S + 0.2
        result = await run.result()
        assert result.ends == COMPLETED
        assert result.snapshot.triggered_faults == {f"{service}:late": {order_id}}

    in_memory(mode, late)


def death_of(wire: Wire) -> tuple[object, object]:
    return wire.headers["dead_reason"], wire.headers["attempts"]


@pytest.mark.parametrize("service", ["inventory", "delivery"])
@pytest.mark.parametrize("mode", MODES)
def test_a_failing_step_is_dead_lettered_and_the_deadline_rolls_back(mode: Mode, service: str) -> None:
    async def error(system: System) -> None:
        result, messages = await with_failure(system, f"{service}:error")
        assert result.ends == {"REJECTED deadline": 1}
        (wire,) = await dead_letters(system, service)
        assert death_of(wire) == ("attempts_exhausted", FORWARD_ATTEMPTS)
        assert FORWARD_ATTEMPTS == 5
        assert "InjectedError" in wire.headers["dead_detail"]
        assert set(await all_dead_letters(system)) == {service}
        attempts = [item.wire.headers.get("attempt") for item in messages if item.wire.message_id == wire.message_id]
        assert attempts == [None, 2, 3, 4, 5, 5], "published once, retried four times, then dead-lettered"
        assert all(run.phase is Phase.DONE for run in result.snapshot.sagas.values())

    in_memory(mode, error)


@pytest.mark.parametrize("mode", MODES)
def test_a_failing_order_placement_is_dead_lettered_without_effect(mode: Mode) -> None:
    async def error(system: System) -> None:
        run = JourneyRun(system)
        await run.place({"book": 2}, "order:error")
        await system.wait_until(lambda: has_dead_letters(system, "order"), "a dead letter of the order service")
        result = await run.result()
        (wire,) = await dead_letters(system, "order")
        assert death_of(wire) == ("attempts_exhausted", FORWARD_ATTEMPTS)
        assert result.ends == {}
        assert not result.snapshot.reservations, "no other service may have been called"
        assert not result.snapshot.books

    in_memory(mode, error)


async def has_dead_letters(system: System, worker: str) -> bool:
    return bool(await dead_letters(system, worker))


@pytest.mark.parametrize(
    ("failure", "end"),
    [("error", "REJECTED payment_timeout"), ("slow", "COMPLETED"), ("declined", "REJECTED payment_declined")],
)
@pytest.mark.parametrize("mode", MODES)
def test_gateway_failures_decide_the_order(mode: Mode, failure: str, end: str) -> None:
    async def at_gateway(system: System) -> None:
        result, _ = await with_failure(system, f"payment:{failure}")
        assert result.ends == {end: 1}
        assert await all_dead_letters(system) == {}

    in_memory(mode, at_gateway)


@pytest.mark.parametrize(("failure", "end"), [("out_of_stock", "out_of_stock"), ("undeliverable", "undeliverable")])
@pytest.mark.parametrize("mode", MODES)
def test_business_failures_reject_the_order(mode: Mode, failure: str, end: str) -> None:
    service = "inventory" if failure == "out_of_stock" else "delivery"

    async def refused(system: System) -> None:
        result, _ = await with_failure(system, f"{service}:{failure}")
        assert result.ends == {f"REJECTED {end}": 1}

    in_memory(mode, refused)


@pytest.mark.parametrize("mode", MODES)
def test_an_unknown_failure_is_ignored(mode: Mode) -> None:
    async def unknown(system: System) -> None:
        run = JourneyRun(system)
        await run.place({"book": 2}, "inventory:no_such_failure")
        result = await run.result()
        assert result.ends == COMPLETED
        assert result.snapshot.triggered_faults == {}

    in_memory(mode, unknown)


@pytest.mark.parametrize("mode", MODES)
def test_an_order_can_carry_several_failures(mode: Mode) -> None:
    async def several(system: System) -> None:
        run = JourneyRun(system)
        order_id = await run.place({"book": 2}, "inventory:late", "payment:pending", "delivery:undeliverable")
        result = await run.result()
        assert result.ends == {"REJECTED undeliverable": 1}
        triggered = {"inventory:late", "payment:pending", "delivery:undeliverable"}
        assert result.snapshot.triggered_faults == {failure: {order_id} for failure in triggered}

    in_memory(mode, several)


@pytest.mark.real
def test_message_faults_at_every_service_at_once_on_servers(mode: Mode, real: Servers, prefix: str) -> None:
    """Place an order for each failure and service; crashed workers are restarted with new connections."""
    failures = [f"{service}:{fault}" for service in SERVICES for fault in ("crash", "duplicate", "late")]

    async def play(system: System) -> None:
        await set_up_stock(system.stores["inventory"], {"plenty": len(failures)})
        before = {name: running.worker for name, running in system.running.items()}
        run = JourneyRun(system)
        orders = {failure: await run.place({"plenty": 1}, failure) for failure in failures}
        await finish(run)
        result = await run.result()
        assert result.ends == {"COMPLETED": len(failures)}
        assert result.audit.ok, result.audit.findings
        assert result.snapshot.triggered_faults == {failure: {order_id} for failure, order_id in orders.items()}
        assert all(system.running[service].worker is not before[service] for service in SERVICES), (
            "every worker must have been restarted"
        )
        assert await all_dead_letters(system) == {}

    on_servers(mode, real.backend(prefix, LONG_TIMEOUTS), play)
