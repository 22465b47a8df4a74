"""When a compensation exhausts its retries, the order needs attention and names the cause. Redriven, it continues from there.

In memory, on virtual time.
"""

import pytest

from bootstrap.memory_backend import MemoryBackend
from bootstrap.modes import Mode, roles
from broker.codec import DeadReason
from broker.loop.retry import COMPENSATION_ATTEMPTS
from lab.journeys.run import JourneyRun
from lab.system import System
from ops.audit import audit
from ops.dead_letters import DeadLetter, dead_letters, discard, requeue
from ops.order_status import NEEDS_ATTENTION, order_status, orders_needing_attention
from services.order.domain import OrderState
from services.payment.messages import PaymentStepFailed
from tests.support.system import LONG_TIMEOUTS, MODES, Program, T
from tests.support.system import in_memory as run_in_memory


def in_memory(mode: Mode, program: Program[T]) -> T:
    """With a deadline that does not pass before a compensation has exhausted its retries."""
    return run_in_memory(mode, program, lambda mode: MemoryBackend(mode, timeouts=LONG_TIMEOUTS))


async def stuck_order(system: System) -> tuple[JourneyRun, str]:
    """An order whose delivery is refused and whose stock cannot be released."""
    run = JourneyRun(system)
    order_id = await run.place({"book": 2}, "delivery:undeliverable", "inventory:undo_error")

    async def stuck() -> bool:
        return order_id in orders_needing_attention(await system.snapshot())

    await system.wait_until(stuck, "the order to need attention", timeout_s=120)
    return run, order_id


async def letters(system: System) -> list[DeadLetter]:
    return await dead_letters(system.client.transport, system.client.topology, list(roles(system.mode)))


@pytest.mark.parametrize("mode", MODES)
def test_an_order_with_an_exhausted_compensation_needs_attention(mode: Mode) -> None:
    async def play(system: System) -> None:
        _, order_id = await stuck_order(system)
        seen = await system.snapshot()
        stands = await order_status(system.stores, order_id)
        assert stands is not None
        assert stands.summary() == {
            "order_id": order_id,
            "state": NEEDS_ATTENTION,
            "reason": "ReleaseStock: InjectedError: the fault `undo_error` was injected with this order",
        }
        assert seen.orders[order_id].state is OrderState.PENDING, "the semantic lock holds"
        assert seen.reservations[order_id].state == "HELD"
        assert audit(seen).ok
        (letter,) = await letters(system)
        assert (letter.worker, letter.order_id, letter.reason) == ("inventory", order_id, DeadReason.ATTEMPTS_EXHAUSTED)
        assert letter.as_dict()["attempts"] == COMPENSATION_ATTEMPTS

    in_memory(mode, play)


@pytest.mark.parametrize("mode", MODES)
def test_a_redriven_order_continues_and_ends_with_its_reason(mode: Mode) -> None:
    async def play(system: System) -> None:
        run, order_id = await stuck_order(system)
        transport = system.backend.transport("redrive")
        await transport.open()
        (sent,) = await requeue(transport, system.client.topology, "inventory", lambda letter: letter.order_id == order_id)
        await transport.close()
        assert sent.order_id == order_id
        result = await run.result()
        assert result.ends == {"REJECTED undeliverable": 1}
        assert result.audit.ok, result.audit.findings
        assert await letters(system) == []
        assert orders_needing_attention(result.snapshot) == {}

    in_memory(mode, play)


@pytest.mark.parametrize("mode", MODES)
def test_a_void_that_is_never_confirmed_escalates_once(mode: Mode) -> None:
    async def play(system: System) -> None:
        run = JourneyRun(system)
        order_id = await run.place({"book": 2}, "delivery:undeliverable", "payment:void_error")
        await system.wait_until(lambda: run.has_event(order_id, PaymentStepFailed), "payment to escalate", timeout_s=120)

        async def stuck() -> bool:
            return order_id in orders_needing_attention(await system.snapshot())

        await system.wait_until(stuck, "the order to need attention")
        stands = await order_status(system.stores, order_id)
        assert stands is not None
        assert stands.attention is not None
        assert stands.attention.step == "VoidPayment"
        assert [wire.type for wire in system.events if wire.type == PaymentStepFailed.type_name] == [
            PaymentStepFailed.type_name
        ], "once"

    in_memory(mode, play)


@pytest.mark.parametrize("mode", MODES)
def test_discard_removes_only_the_selected_dead_letters(mode: Mode) -> None:
    async def play(system: System) -> None:
        run = JourneyRun(system)
        orders = [await run.place({"book": 1}, "delivery:error") for _ in range(3)]
        for order_id in orders:
            await run.wait_for_end(order_id)
        await system.wait_until_idle()
        transport = system.backend.transport("dlq")
        await transport.open()
        gone = await discard(transport, system.client.topology, "delivery", lambda letter: letter.order_id == orders[1])
        await transport.close()
        assert [letter.order_id for letter in gone] == [orders[1]]
        left = await letters(system)
        assert {letter.order_id for letter in left} == {orders[0], orders[2]}
        assert {letter.reason for letter in left} == {DeadReason.ATTEMPTS_EXHAUSTED}

    run_in_memory(mode, play)
