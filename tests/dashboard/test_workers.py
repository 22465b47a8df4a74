"""Workers that are killed and revived from the page, or crash."""

import asyncio
from typing import Any

import pytest

from api.sample_orders import sample_order
from bootstrap.modes import Mode
from dashboard.lanes.audit_light import run_audit
from dashboard.lanes.demo import DemoLane
from dashboard.lanes.lane import OrderToPlace
from lab.virtual_time import run_on_virtual_time
from services.vocabulary import Line
from tests.support.dashboard import MODES, Page, run_with_page

BOTH = pytest.mark.parametrize("mode", MODES)


def queue(status: Any, name: str) -> tuple[int, int]:
    (found,) = [queue for queue in status.queues if queue.name == name]
    return found.depth, found.consumers


@BOTH
def test_killed_worker_stays_down_until_it_is_revived(mode: Mode) -> None:
    async def program(page: Page) -> tuple[Any, ...]:
        lane = page.lanes[mode]
        killed = await page.post(f"/watch/workers/{mode}/payment/kill")
        placed = await page.place(modes=[mode])
        await asyncio.sleep(4)
        down, waiting = await lane.status(), await page.shown(placed[0])
        again = await page.post(f"/watch/workers/{mode}/payment/kill")
        revived = await page.post(f"/watch/workers/{mode}/payment/revive")
        up = await lane.status()
        twice = await page.post(f"/watch/workers/{mode}/payment/revive")
        (order,) = await page.at_rest(placed)
        return (killed.status, again.status, revived.status, twice.status), down, waiting, up, order

    statuses, down, waiting, up, order = run_with_page(program)
    assert statuses == (204, 204, 204, 204)
    assert {worker.name for worker in down.workers if not worker.up} == {"payment"}
    assert down.faults == ("payment is down: it was killed. Revive it to continue",)
    assert queue(down, f"{mode}.payment") == (1, 0)
    assert waiting["waiting"][0]["worker"] == "payment"
    assert all(worker.up for worker in up.workers)
    assert order["state"] == "COMPLETED"


@BOTH
def test_worker_down_past_the_deadline_leads_to_compensation(mode: Mode) -> None:
    async def program(page: Page) -> Any:
        await page.post(f"/watch/workers/{mode}/payment/kill")
        placed = await page.place(modes=[mode])
        await asyncio.sleep(20)
        await page.post(f"/watch/workers/{mode}/payment/revive")
        (order,) = await page.at_rest(placed)
        await asyncio.sleep(5)
        return order, await page.lanes[mode].status()

    order, status = run_with_page(program)
    assert (order["state"], order["reason"]) == ("REJECTED", "deadline")
    assert "payment had not answered" in order["why"]
    assert (status.audit, status.open) == ("sound", 0)


def test_crashed_worker_shows_as_down_and_restarts() -> None:
    async def program(page: Page) -> tuple[set[tuple[str, ...]], list[Any]]:
        placed = await page.place("payment:crash", modes=["orchestrator"])
        seen = set()
        for _ in range(60):
            await asyncio.sleep(0.1)
            seen.add((await page.lanes["orchestrator"].status()).faults)
        return seen, await page.at_rest(placed)

    seen, (order,) = run_with_page(program)
    assert seen == {(), ("payment is down",)}
    assert order["state"] == "COMPLETED"


def test_kill_is_reported_to_clients_at_once() -> None:
    async def program(page: Page) -> tuple[float, Any]:
        loop = asyncio.get_running_loop()
        async with page.following() as stream:
            while (await stream.next())["event"] != "ready":
                pass
            began = loop.time()
            await page.post("/watch/workers/choreography/order/kill")
            while True:
                event = await stream.next()
                if event["event"] == "status" and event["data"]["faults"]:
                    return loop.time() - began, event["data"]

    after_s, status = run_with_page(program)
    assert after_s < 0.1
    assert {"name": "order", "up": False} in status["workers"]


def test_times_come_from_the_clock_of_the_lane() -> None:
    """In the served demo that is the wall clock, which has another zero than the event loop's clock."""

    async def whole() -> tuple[float, float]:
        offset = 1_000_000.0
        loop = asyncio.get_running_loop()
        async with DemoLane(Mode.CHOREOGRAPHY, clock=lambda: loop.time() + offset, run_audit=run_audit) as lane:
            began = loop.time()
            order_id = "019b0000-0000-7000-8000-000000000001"
            await lane.place([OrderToPlace(order_id, sample_order([Line(sku="book", quantity=1)]))])
            await asyncio.sleep(3)
            found = await lane.order(order_id)
            assert found is not None
            return found[0].entries[1].at - offset - began, found[0].moved_at - offset - began

    second, last = run_on_virtual_time(whole())
    assert 0.2 < second < 0.4
    assert 1.0 < last < 3.0
