"""What the page follows: whole histories when they change, from the beginning or from where it was."""

import asyncio
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

import observer.queries
from api.sample_orders import sample_order
from bootstrap.modes import Mode, roles
from dashboard.event_stream import KEPT_MAX, NEWEST, POLL_S, STUCK_S, HistoryStream
from dashboard.lanes.audit_light import run_audit, run_audit_in_thread
from dashboard.lanes.demo import DemoLane
from dashboard.lanes.lane import LaneCounters, OrderToPlace
from observer.history import History
from ops.audit import Audit
from services.vocabulary import Line
from tests.support.dashboard import MODES, Page, at_a_page, is_ready, orders_in, upto


def ended(mode: str) -> Any:
    return lambda event: event["event"] == "order" and event["data"]["mode"] == mode and event["data"]["state"] == "COMPLETED"


def test_whoever_comes_is_told_of_the_orders_then_how_the_lanes_are_then_that_it_is_ready() -> None:
    async def program(page: Page) -> list[dict[str, Any]]:
        await page.at_rest(await page.place())
        await page.place("payment:pending")
        await asyncio.sleep(2)
        async with page.following() as stream:
            return await upto(stream, is_ready)

    events = at_a_page(program)
    assert [event["event"] for event in events] == ["order"] * 4 + ["status"] * 2 + ["ready"]
    assert sorted((one["mode"], one["state"]) for one in orders_in(events)) == sorted(
        (mode, state) for mode in MODES for state in ("COMPLETED", "PENDING")
    )


def test_an_order_that_moves_comes_whole_and_only_grows() -> None:
    async def program(page: Page) -> list[dict[str, Any]]:
        async with page.following() as stream:
            await upto(stream, is_ready)
            await page.place()
            return await upto(stream, ended("orchestrator"))

    told = [one for one in orders_in(at_a_page(program)) if one["mode"] == "orchestrator"]
    lengths = [len(one["entries"]) for one in told]
    assert lengths == sorted(lengths)
    assert len(told) > 5
    assert [entry["name"] for entry in told[-1]["entries"]][:2] == ["PlaceOrder", "OrderPlaced"]
    assert lengths[-1] == 10


def test_whoever_comes_again_is_told_only_what_has_changed_since() -> None:
    async def program(page: Page) -> tuple[str, list[Any], str]:
        await page.at_rest(await page.place())
        async with page.following() as stream:
            last = (await upto(stream, is_ready))[-1]["id"]
        (order, _) = await page.place()
        await page.at_rest([order])
        async with page.following(last) as stream:
            return order["order_id"], await upto(stream, is_ready), last

    order_id, events, last = at_a_page(program)
    assert {one["order_id"] for one in orders_in(events)} == {order_id}
    epoch, _, number = last.partition("-")
    assert [event["id"].partition("-")[0] for event in events] == [epoch] * len(events)
    numbers = [int(event["id"].partition("-")[2]) for event in events]
    assert numbers == sorted(numbers)
    assert numbers[0] > int(number)


def test_nothing_is_told_twice_to_whoever_missed_nothing() -> None:
    async def program(page: Page) -> list[dict[str, Any]]:
        await page.at_rest(await page.place())
        async with page.following() as stream:
            last = (await upto(stream, is_ready))[-1]["id"]
        async with page.following(last) as stream:
            return await upto(stream, is_ready)

    assert orders_in(at_a_page(program)) == []


@pytest.mark.parametrize(
    "last", ["123abc-{number}", "nonsense", "-1", "{epoch}-99999", "{epoch}--1", "{epoch}-1x", "{epoch}-" + "9" * 400]
)
def test_a_number_of_another_epoch_or_of_none_begins_anew(last: str) -> None:
    async def program(page: Page) -> list[dict[str, Any]]:
        await page.at_rest(await page.place())
        async with page.following(last.format(epoch=page.history_stream.epoch, number=page.history_stream._number)) as stream:
            return await upto(stream, is_ready)

    assert len(orders_in(at_a_page(program))) == 2


def test_how_the_lanes_are_is_told_at_least_every_two_seconds() -> None:
    async def program(page: Page) -> list[float]:
        async with page.following() as stream:
            await upto(stream, is_ready)
            events = [await stream.next() for _ in range(12)]
        return [event["data"]["at"] for event in events if event["data"]["mode"] == "choreography"]

    times = at_a_page(program)
    assert len(times) == 6
    assert max(later - earlier for earlier, later in pairwise(times)) <= 2.0


def test_the_status_counts_what_was_heard_and_the_light_is_sound() -> None:
    async def program(page: Page) -> tuple[Any, Any]:
        await page.at_rest(await page.place())
        await page.place("payment:pending")
        await asyncio.sleep(3)
        async with page.following() as stream:
            events = await upto(stream, is_ready)
        return [event["data"] for event in events if event["event"] == "status"]

    orchestrator, choreography = at_a_page(program)
    for status in (orchestrator, choreography):
        assert (status["orders"], status["open"], status["audit"], status["findings"]) == (2, 1, "sound", [])
        assert 2 < status["oldest_open_s"] < 4
        assert status["faults"] == []
        assert all(worker["up"] for worker in status["workers"])
    assert orchestrator["messages_per_order"] == 10
    assert choreography["messages_per_order"] == 6


def test_books_that_do_not_balance_turn_the_light_red() -> None:
    async def program(page: Page) -> Any:
        lane = page.lanes["orchestrator"]
        placed = await page.place(modes=["orchestrator"])
        await page.at_rest(placed)
        await asyncio.sleep(10)
        await lane._backend.store("delivery").wipe()
        await lane._backend.store("delivery").put([])  # a commit: without one nobody would look again
        await asyncio.sleep(6)
        return await lane.status()

    status = at_a_page(program)
    assert status.audit == "broken"
    assert any(finding.startswith("completed: ") for finding in status.findings)


def test_as_long_as_nothing_changes_nothing_is_audited() -> None:
    async def program(page: Page) -> tuple[int, int]:
        auditing = page.lanes["orchestrator"]._audit_light
        audits = 0

        async def counted(*parts: Any) -> Audit:
            nonlocal audits
            audits += 1
            return await run_audit(*parts)

        auditing._run_audit = counted
        await page.at_rest(await page.place())
        await asyncio.sleep(10)
        before = audits
        await asyncio.sleep(60)
        return before, audits - before

    before, afterwards = at_a_page(program)
    assert before >= 2
    assert afterwards == 0


def test_in_real_time_the_audit_is_done_in_a_thread_and_finds_the_same() -> None:
    async def whole() -> tuple[Audit, Audit, str]:
        async with DemoLane(Mode.CHOREOGRAPHY, pace_s=0.0) as lane:
            placed = OrderToPlace("019b0000-0000-7000-8000-000000000001", sample_order([Line(sku="book", quantity=1)]))
            await lane.place([placed])
            await lane._system.wait_until_idle()
            lane._backend.store("delivery")._database.collections["deliveries"].clear()
            stores = {name: lane._backend.store_copy(name) for name in roles(lane.mode)}
            books = await lane._backend.books()
            return await run_audit(stores, books), await run_audit_in_thread(stores, books), (await lane.status()).audit

    here, there, light = asyncio.run(whole())
    assert here == there
    assert not here.ok
    assert light == "sound"  # that of the audit before


def test_an_order_counts_once_however_often_something_is_heard_after_its_end() -> None:
    async def program(page: Page) -> History:
        await page.at_rest(await page.place(modes=["orchestrator"]))
        (one,) = await page.lanes["orchestrator"].newest(1)
        return one

    one = at_a_page(program)
    before = replace(one, entries=one.entries[:-1])
    counters = LaneCounters()
    counts = []
    for history in (replace(before, state="PENDING"), before, one, one):
        counters.count(history)
        counts.append((counters.orders, len(counters.open), counters.messages, counters.messages_per_order))
    assert counts == [(1, 1, 9, None), (1, 0, 9, 9.0), (1, 0, 10, 10.0), (1, 0, 10, 10.0)]


# --- the price ------------------------------------------------------------------------------------------------------------


def test_open_orders_that_do_not_move_cost_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    computed: list[str] = []
    real = observer.queries.build_history

    def counted(flow: Any, observations: Any, *more: Any, **named: Any) -> History:
        computed.append(observations[0].order_id)
        return real(flow, observations, *more, **named)

    monkeypatch.setattr(observer.queries, "build_history", counted)

    async def program(page: Page) -> tuple[int, int, int]:
        for mode in MODES:
            await page.post(f"/watch/workers/{mode}/inventory/kill")
        await page.place("inventory:out_of_stock", count=500, seed=1)
        await asyncio.sleep(8)
        opened = [len(lane._history_feed.counters.open) for lane in page.lanes.values()]
        assert opened == [500, 500]
        at_first = len(computed)
        await asyncio.sleep(20 * POLL_S)
        still = len(computed) - at_first
        async with page.following() as one, page.following() as other:
            told = [len(orders_in(await upto(stream, is_ready))) for stream in (one, other)]
        assert told == [1_000, 1_000]
        return at_first, still, len(computed) - at_first

    at_first, still, with_clients = at_a_page(program)
    assert at_first <= 1_000 * 4  # a message may be heard at each of its few steps, and nothing is computed twice for nothing
    assert still == 0
    assert with_clients == 0


def test_one_look_serves_all_who_watch() -> None:
    looks = 0

    async def program(page: Page) -> int:
        nonlocal looks
        lane = page.lanes["orchestrator"]
        real = lane.changed

        async def counted(limit: int) -> list[History]:
            nonlocal looks
            looks += 1
            return await real(limit)

        lane.changed = counted  # type: ignore[method-assign]
        async with page.following(), page.following(), page.following():
            before = looks
            await asyncio.sleep(10)
            return looks - before

    assert at_a_page(program) <= 10 / POLL_S + 1


class Scripted:
    """A lane that tells what it is told to."""

    mode = MODES[0]

    def __init__(self, *turns: list[History]) -> None:
        self._turns = list(turns)

    async def changed(self, _limit: int) -> list[History]:
        return self._turns.pop(0)


def test_a_client_that_is_slow_gets_each_order_once_as_it_stands_and_holds_nothing_back() -> None:
    async def program(page: Page) -> tuple[int, int]:
        stream = page.history_stream.stream(None)
        await anext(stream)
        while b"event: ready" not in await anext(stream):
            pass
        placed = await page.place(modes=["orchestrator"])  # it stands still now: nobody asks for what comes next
        await page.at_rest(placed)
        await asyncio.sleep(1)
        told = 0
        async with asyncio.timeout(30):
            while True:
                event = await anext(stream)
                if b"event: order" in event:
                    told += 1
                    break
        return told, len(page.history_stream._after(0))

    assert at_a_page(program) == (1, 1)


def test_only_so_many_ended_orders_are_kept_and_whoever_missed_one_begins_anew() -> None:
    async def program(page: Page) -> tuple[int, int, int]:
        (placed,) = await page.place(modes=["orchestrator"])
        await page.at_rest([placed])
        (one,) = await page.lanes["orchestrator"].newest(1)
        many = [replace(one, order_id=f"{number:08d}") for number in range(KEPT_MAX + 50)]
        lane: Any = Scripted(many[:KEPT_MAX], many[KEPT_MAX:])
        history_stream = HistoryStream([lane], asyncio.get_running_loop().time)
        history_stream._started.set()
        await history_stream._poll()
        slow = history_stream.stream(f"{history_stream.epoch}-10")
        await anext(slow)
        await anext(slow)
        await history_stream._poll()
        rest = [event async for event in slow]
        anew = history_stream.stream(f"{history_stream.epoch}-20")
        first = [await anext(anew) for _ in range(NEWEST + 2)]
        return len(history_stream._orders), sum(b"event: order" in event for event in first), len(rest)

    kept, told, rest = at_a_page(program)
    assert kept == KEPT_MAX
    assert told == NEWEST
    assert rest < 50


# --- standing still, and the end ------------------------------------------------------------------------------------------


def test_an_order_that_stands_still_for_long_is_told_again_as_stuck() -> None:
    async def program(page: Page) -> Any:
        async with page.following() as stream:
            await upto(stream, is_ready)
            for worker in ("order", "inventory"):
                await page.post(f"/watch/workers/choreography/{worker}/kill")
            await page.place(modes=["choreography"])
            events = await upto(stream, lambda event: event["event"] == "order" and event["data"]["stuck"])
            return orders_in(events)

    first, *_, last = at_a_page(program)
    assert (first["stuck"], last["stuck"]) == (False, True)
    assert first["entries"] == last["entries"]
    assert last["waiting"][0]["worker"] == "order"


def test_an_order_that_needs_attention_is_stuck_at_once() -> None:
    async def program(page: Page) -> Any:
        (order,) = await page.place("delivery:undeliverable,payment:void_error", modes=["orchestrator"])
        await page.at_rest([order])
        return await page.told(order)

    told = at_a_page(program)
    assert told["stuck"]
    assert told["took_s"] is None
    assert told["moved_at"] - told["began_at"] < STUCK_S


def test_streams_end_when_the_page_is_told_to_stop() -> None:
    async def program(page: Page) -> None:
        async with page.following() as stream:
            await upto(stream, is_ready)
            page.history_stream.stop()
            async with asyncio.timeout(1):
                while await stream._exchange.sent.get():
                    """What was on its way; the last piece of an answer is empty."""

    at_a_page(program)
