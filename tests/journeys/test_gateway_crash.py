"""The payment gateway's process is killed with SIGKILL during a journey and started again, on servers.

Its books are durable and payment's timers are documents, so nothing is lost: payments in doubt are asked for again.
"""

import asyncio
from pathlib import Path

import pytest

from bootstrap.modes import Mode
from lab.journeys.run import JourneyRun
from lab.system import System, set_up_stock
from services.payment.domain import PaymentState
from tests.support.gateway_process import running_gateway
from tests.support.system import LONG_TIMEOUTS, MODES, Servers, finish, on_servers, temporary_prefix

pytestmark = pytest.mark.real

ORDERS = 10


@pytest.mark.parametrize("mode", MODES)
def test_a_gateway_killed_during_a_journey_loses_no_order_and_no_money(
    mode: Mode, rabbit_url: str, mongo_url: str, tmp_path: Path
) -> None:
    with running_gateway(tmp_path / "books.db") as gateway:

        async def killed(system: System) -> None:
            await set_up_stock(system.stores["inventory"], {"plenty": 10 * ORDERS})
            run = JourneyRun(system)
            pending = [await run.place({"plenty": 1}, "payment:pending") for _ in range(ORDERS)]
            await run.wait_for_payment_state(pending[-1], PaymentState.PENDING)
            await system.wait_until(lambda: all_booked(system, pending), "the gateway to have every payment in its books")
            await asyncio.to_thread(gateway.kill)
            while_down = [await run.place({"plenty": 1}) for _ in range(ORDERS)]
            await run.wait_for_payment_state(while_down[-1], PaymentState.PENDING)
            assert not any(run.has_ended(order_id) for order_id in while_down), "these orders must be in progress"
            await asyncio.to_thread(gateway.start)
            await finish(run)
            result = await run.result()
            assert result.ends == {"COMPLETED": 2 * ORDERS}
            assert result.audit.ok, result.audit.findings
            assert {book_entry.state for book_entry in result.snapshot.books.values()} == {"authorized"}

        real = Servers(rabbit_url, mongo_url, gateway.url)
        with temporary_prefix(real, mode) as prefix:
            on_servers(mode, real.backend(prefix, LONG_TIMEOUTS), killed)


async def all_booked(system: System, order_ids: list[str]) -> bool:
    return set(order_ids) <= set((await system.backend.books()).payments)
