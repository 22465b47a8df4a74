"""Workers that are killed and revived from the page."""

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
from tests.support.dashboard import MODES, Page, at_a_page

BOTH = pytest.mark.parametrize("mode", MODES)


def queue(status: Any, name: str) -> tuple[int, int]:
    (found,) = [queue for queue in status.queues if queue.name == name]
    return found.depth, found.consumers


@BOTH
def test_a_killed_worker_stays_dead_its_messages_wait_and_it_takes_them_up_when_it_is_revived(mode: Mode) -> None:
    async def program(page: Page) -> tuple[Any, ...]:
        lane = page.lanes[mode]
        killed = await page.post(f"/watch/workers/{mode}/payment/kill")
        placed = await page.place(modes=[mode])
        await asyncio.sleep(4)
        dead, waiting = await lane.status(), await page.told(placed[0])
        again = await page.post(f"/watch/workers/{mode}/payment/kill")
        revived = await page.post(f"/watch/workers/{mode}/payment/revive")
        alive = await lane.status()
        twice = await page.post(f"/watch/workers/{mode}/payment/revive")
        (told,) = await page.at_rest(placed)
        return (killed.status, again.status, revived.status, twice.status), dead, waiting, alive, told

    statuses, dead, waiting, alive, told = at_a_page(program)
    assert statuses == (204, 204, 204, 204)
    assert {worker.name for worker in dead.workers if not worker.up} == {"payment"}
    assert dead.faults == ("payment is down: it was killed, and waits to be revived",)
    assert queue(dead, f"{mode}.payment") == (1, 0)
    assert waiting["waiting"][0]["worker"] == "payment"
    assert all(worker.up for worker in alive.workers)
    assert told["state"] == "COMPLETED"


@BOTH
def test_a_worker_that_is_dead_past_the_deadline_leaves_an_order_that_is_undone(mode: Mode) -> None:
    async def program(page: Page) -> Any:
        await page.post(f"/watch/workers/{mode}/payment/kill")
        placed = await page.place(modes=[mode])
        await asyncio.sleep(20)
        await page.post(f"/watch/workers/{mode}/payment/revive")
        (told,) = await page.at_rest(placed)
        await asyncio.sleep(5)
        return told, await page.lanes[mode].status()

    told, status = at_a_page(program)
    assert (told["state"], told["reason"]) == ("REJECTED", "deadline")
    assert "payment had not answered" in told["why"]
    assert (status.audit, status.open) == ("sound", 0)


def test_a_worker_that_crashes_is_seen_to_be_away_and_comes_back_by_itself() -> None:
    async def program(page: Page) -> tuple[set[tuple[str, ...]], list[Any]]:
        placed = await page.place("payment:crash", modes=["orchestrator"])
        seen = set()
        for _ in range(60):
            await asyncio.sleep(0.1)
            seen.add((await page.lanes["orchestrator"].status()).faults)
        return seen, await page.at_rest(placed)

    seen, (told,) = at_a_page(program)
    assert seen == {(), ("payment is down",)}
    assert told["state"] == "COMPLETED"


def test_whoever_watches_is_told_at_once_that_a_worker_was_killed() -> None:
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

    after_s, status = at_a_page(program)
    assert after_s < 0.1
    assert {"name": "order", "up": False} in status["workers"]


def test_every_moment_is_told_by_the_clock_that_the_lane_was_given() -> None:
    """In the served run that is the wall clock, though the loop's own has another beginning."""

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
