"""Timers: a pending payment, a gateway that hangs, a deadline. In memory, on virtual time."""

import asyncio

import pytest

from bootstrap.backend import SETTLE_AFTER_S
from bootstrap.modes import Mode
from broker.transport import Outgoing
from lab.journeys.run import JourneyRun
from lab.system import System, set_up_stock
from services.order.messages import OrderCompleted, OrderWithdrawn
from services.payment.domain import PaymentState
from services.payment.messages import PaymentAuthorized, PaymentDeclined
from tests.support.system import MODES, broker_of, finish, in_memory

#: The in-process gateway's timeout, in seconds (bootstrap/in_process_gateway.py).
GATEWAY_TIMEOUT_S = 2.0
MANY = 50


class ArrivalClock:
    """When the first message of each type and order reached the broker, in seconds since the clock was created."""

    def __init__(self, system: System) -> None:
        self._loop = asyncio.get_running_loop()
        self._started_at = self._loop.time()
        self._first: dict[tuple[str, str], float] = {}
        broker_of(system).on_publish.append(self._record)

    def _record(self, item: Outgoing) -> None:
        self._first.setdefault((str(item.wire.type), str(item.wire.correlation_id)), self._loop.time() - self._started_at)

    def first(self, kind: type, order_id: str) -> float:
        return self._first[kind.type_name, order_id]


@pytest.mark.parametrize("mode", MODES)
def test_a_pending_payment_completes_the_order_after_it_settles(mode: Mode) -> None:
    async def pending(system: System) -> None:
        clock, run = ArrivalClock(system), JourneyRun(system)
        order_id = await run.place({"book": 2}, "payment:pending")
        await run.wait_for_payment_state(order_id, PaymentState.PENDING)
        result = await run.result()
        assert result.ends == {"COMPLETED": 1}
        timeouts, limits = system.backend.timeouts.payment, system.backend.limits
        # Settled after 3 s; polled every 2 s, each time up to one timer interval later.
        second_poll_s = 2 * (timeouts.poll_interval_s + 2 * limits.timer_interval_s)
        assert SETTLE_AFTER_S <= clock.first(PaymentAuthorized, order_id) <= second_poll_s
        assert SETTLE_AFTER_S <= clock.first(OrderCompleted, order_id) <= second_poll_s + 0.1

    in_memory(mode, pending)


@pytest.mark.parametrize("mode", MODES)
def test_hanging_payments_do_not_delay_others(mode: Mode) -> None:
    async def hung(system: System) -> None:
        await set_up_stock(system.stores["inventory"], {"plenty": 10 * MANY})
        clock, run = ArrivalClock(system), JourneyRun(system)
        for _ in range(MANY):
            await run.place({"plenty": 1}, "payment:hang")
        good = [await run.place({"plenty": 1}) for _ in range(MANY)]
        await finish(run)
        result = await run.result()
        assert result.ends == {"COMPLETED": MANY, "REJECTED payment_timeout": MANY}
        assert result.audit.ok, result.audit.findings
        slowest = max(clock.first(OrderCompleted, order_id) for order_id in good)
        assert slowest < GATEWAY_TIMEOUT_S, "a good order waited until the first call to the gateway timed out"

    in_memory(mode, hung)


@pytest.mark.parametrize("mode", MODES)
def test_a_hanging_payment_times_out_before_the_deadline(mode: Mode) -> None:
    async def hangs(system: System) -> None:
        clock, run = ArrivalClock(system), JourneyRun(system)
        order_id = await run.place({"book": 1}, "payment:hang")
        await run.result()
        authorize_timeout_s = system.backend.timeouts.payment.authorize_timeout_s
        assert (
            authorize_timeout_s
            <= clock.first(PaymentDeclined, order_id)
            <= authorize_timeout_s + 2 * system.backend.limits.timer_interval_s
        )
        assert authorize_timeout_s + 1 < system.backend.timeouts.deadline_s

    in_memory(mode, hangs)


@pytest.mark.parametrize("mode", MODES)
def test_the_deadline_withdraws_an_order_at_its_time(mode: Mode) -> None:
    async def overdue(system: System) -> None:
        clock, run = ArrivalClock(system), JourneyRun(system)
        await run.stop("inventory")
        order_id = await run.place({"book": 1})
        await run.wait_for_event(order_id, OrderWithdrawn)
        await run.start("inventory")
        assert (await run.result()).ends == {"REJECTED deadline": 1}
        deadline_s = system.backend.timeouts.deadline_s
        assert deadline_s <= clock.first(OrderWithdrawn, order_id) <= deadline_s + 2 * system.backend.limits.timer_interval_s

    in_memory(mode, overdue)
