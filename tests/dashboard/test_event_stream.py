"""The event stream: whole histories when they change, from the start or after a given event."""

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
from services.vocabulary import Line, ObservedState
from tests.support.dashboard import MODES, Page, events_until, is_ready, orders_in, run_with_page


def is_completed_in(mode: str) -> Any:
    return lambda event: event["event"] == "order" and event["data"]["mode"] == mode and event["data"]["state"] == "COMPLETED"


def test_new_client_gets_orders_then_statuses_then_ready() -> None:
    async def program(page: Page) -> list[dict[str, Any]]:
        await page.at_rest(await page.place())
        await page.place("payment:pending")
        await asyncio.sleep(2)
        async with page.following() as stream:
            return await events_until(stream, is_ready)

    events = run_with_page(program)
    assert [event["event"] for event in events] == ["order"] * 4 + ["status"] * 2 + ["ready"]
    assert sorted((one["mode"], one["state"]) for one in orders_in(events)) == sorted(
        (mode, state) for mode in MODES for state in ("COMPLETED", "PENDING")
    )


def test_each_order_event_has_the_whole_history_so_far() -> None:
    async def program(page: Page) -> list[dict[str, Any]]:
        async with page.following() as stream:
            await events_until(stream, is_ready)
            await page.place()
            return await events_until(stream, is_completed_in("orchestrator"))

    versions = [one for one in orders_in(run_with_page(program)) if one["mode"] == "orchestrator"]
    lengths = [len(one["entries"]) for one in versions]
    assert lengths == sorted(lengths)
    assert len(versions) > 5
    assert [entry["name"] for entry in versions[-1]["entries"]][:2] == ["PlaceOrder", "OrderPlaced"]
    assert lengths[-1] == 10


def test_reconnecting_client_gets_only_what_has_changed() -> None:
    async def program(page: Page) -> tuple[str, list[Any], str]:
        await page.at_rest(await page.place())
        async with page.following() as stream:
            last = (await events_until(stream, is_ready))[-1]["id"]
        (order, _) = await page.place()
        await page.at_rest([order])
        async with page.following(last) as stream:
            return order["order_id"], await events_until(stream, is_ready), last

    order_id, events, last = run_with_page(program)
    assert {one["order_id"] for one in orders_in(events)} == {order_id}
    epoch, _, number = last.partition("-")
    assert [event["id"].partition("-")[0] for event in events] == [epoch] * len(events)
    numbers = [int(event["id"].partition("-")[2]) for event in events]
    assert numbers == sorted(numbers)
    assert numbers[0] > int(number)


def test_reconnecting_client_that_missed_nothing_gets_no_order() -> None:
    async def program(page: Page) -> list[dict[str, Any]]:
        await page.at_rest(await page.place())
        async with page.following() as stream:
            last = (await events_until(stream, is_ready))[-1]["id"]
        async with page.following(last) as stream:
            return await events_until(stream, is_ready)

    assert orders_in(run_with_page(program)) == []


@pytest.mark.parametrize(
    "last", ["123abc-{number}", "nonsense", "-1", "{epoch}-99999", "{epoch}--1", "{epoch}-1x", "{epoch}-" + "9" * 400]
)
def test_unknown_event_id_starts_the_stream_over(last: str) -> None:
    async def program(page: Page) -> list[dict[str, Any]]:
        await page.at_rest(await page.place())
        async with page.following(last.format(epoch=page.history_stream.epoch, number=page.history_stream._number)) as stream:
            return await events_until(stream, is_ready)

    assert len(orders_in(run_with_page(program))) == 2


def test_status_is_sent_at_least_every_two_seconds() -> None:
    async def program(page: Page) -> list[float]:
        async with page.following() as stream:
            await events_until(stream, is_ready)
            events = [await stream.next() for _ in range(12)]
        return [event["data"]["at"] for event in events if event["data"]["mode"] == "choreography"]

    times = run_with_page(program)
    assert len(times) == 6
    assert max(later - earlier for earlier, later in pairwise(times)) <= 2.0


def test_status_counts_orders_and_the_audit_is_sound() -> None:
    async def program(page: Page) -> tuple[Any, Any]:
        await page.at_rest(await page.place())
        await page.place("payment:pending")
        await asyncio.sleep(3)
        async with page.following() as stream:
            events = await events_until(stream, is_ready)
        return [event["data"] for event in events if event["event"] == "status"]

    orchestrator, choreography = run_with_page(program)
    for status in (orchestrator, choreography):
        assert (status["orders"], status["open"], status["audit"], status["findings"]) == (2, 1, "sound", [])
        assert 2 < status["oldest_open_s"] < 4
        assert status["faults"] == []
        assert all(worker["up"] for worker in status["workers"])
    assert orchestrator["messages_per_order"] == 10
    assert choreography["messages_per_order"] == 6


def test_audit_light_is_broken_when_the_books_do_not_balance() -> None:
    async def program(page: Page) -> Any:
        lane = page.lanes["orchestrator"]
        placed = await page.place(modes=["orchestrator"])
        await page.at_rest(placed)
        await asyncio.sleep(10)
        await lane._backend.store("delivery").wipe()
        await lane._backend.store("delivery").put([])  # a commit: without one there is no further audit
        await asyncio.sleep(6)
        return await lane.status()

    status = run_with_page(program)
    assert status.audit == "broken"
    assert any(finding.startswith("completed orders: ") for finding in status.findings)


def test_audit_runs_only_after_changes() -> None:
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

    before, afterwards = run_with_page(program)
    assert before >= 2
    assert afterwards == 0


def test_audit_in_a_thread_has_the_same_findings() -> None:
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
    assert light == "sound"  # from the previous audit


def test_messages_after_the_end_do_not_count_an_order_twice() -> None:
    async def program(page: Page) -> History:
        await page.at_rest(await page.place(modes=["orchestrator"]))
        (one,) = await page.lanes["orchestrator"].newest(1)
        return one

    one = run_with_page(program)
    before = replace(one, entries=one.entries[:-1])
    counters = LaneCounters()
    counts = []
    for history in (replace(before, state=ObservedState.PENDING), before, one, one):
        counters.count(history)
        counts.append((counters.orders, len(counters.open), counters.messages, counters.messages_per_order))
    assert counts == [(1, 1, 9, None), (1, 0, 9, 9.0), (1, 0, 10, 10.0), (1, 0, 10, 10.0)]


# --- cost -----------------------------------------------------------------------------------------------------------------


def test_unchanged_open_orders_are_not_computed_again(monkeypatch: pytest.MonkeyPatch) -> None:
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
        initially = len(computed)
        await asyncio.sleep(20 * POLL_S)
        unchanged = len(computed) - initially
        async with page.following() as one, page.following() as other:
            counts = [len(orders_in(await events_until(stream, is_ready))) for stream in (one, other)]
        assert counts == [1_000, 1_000]
        return initially, unchanged, len(computed) - initially

    initially, unchanged, with_clients = run_with_page(program)
    assert initially <= 1_000 * 4  # at most once for each message of an order
    assert unchanged == 0
    assert with_clients == 0


def test_lanes_are_polled_once_for_all_clients() -> None:
    polls = 0

    async def program(page: Page) -> int:
        nonlocal polls
        lane = page.lanes["orchestrator"]
        real = lane.changed

        async def counted(limit: int) -> list[History]:
            nonlocal polls
            polls += 1
            return await real(limit)

        lane.changed = counted  # type: ignore[method-assign]
        async with page.following(), page.following(), page.following():
            before = polls
            await asyncio.sleep(10)
            return polls - before

    assert run_with_page(program) <= 10 / POLL_S + 1


class ScriptedLane:
    """A lane that returns given histories, one list for each poll."""

    mode = MODES[0]

    def __init__(self, *turns: list[History]) -> None:
        self._turns = list(turns)

    async def changed(self, _limit: int) -> list[History]:
        return self._turns.pop(0)


def test_slow_client_gets_each_order_once_in_its_newest_version() -> None:
    async def program(page: Page) -> tuple[int, int]:
        stream = page.history_stream.stream(None)
        await anext(stream)
        while b"event: ready" not in await anext(stream):
            pass
        placed = await page.place(modes=["orchestrator"])  # the stream is not read while this order runs
        await page.at_rest(placed)
        await asyncio.sleep(1)
        received = 0
        async with asyncio.timeout(30):
            while True:
                event = await anext(stream)
                if b"event: order" in event:
                    received += 1
                    break
        return received, len(page.history_stream._after(0))

    assert run_with_page(program) == (1, 1)


def test_ended_orders_are_bounded_and_late_clients_start_over() -> None:
    async def program(page: Page) -> tuple[int, int, int]:
        (placed,) = await page.place(modes=["orchestrator"])
        await page.at_rest([placed])
        (one,) = await page.lanes["orchestrator"].newest(1)
        many = [replace(one, order_id=f"{number:08d}") for number in range(KEPT_MAX + 50)]
        lane: Any = ScriptedLane(many[:KEPT_MAX], many[KEPT_MAX:])
        history_stream = HistoryStream([lane], asyncio.get_running_loop().time)
        history_stream._started.set()
        await history_stream._poll()
        slow = history_stream.stream(f"{history_stream.epoch}-10")
        await anext(slow)
        await anext(slow)
        await history_stream._poll()
        rest = [event async for event in slow]
        fresh = history_stream.stream(f"{history_stream.epoch}-20")
        first = [await anext(fresh) for _ in range(NEWEST + 2)]
        return len(history_stream._orders), sum(b"event: order" in event for event in first), len(rest)

    kept, initial, rest = run_with_page(program)
    assert kept == KEPT_MAX
    assert initial == NEWEST
    assert rest < 50


# --- stuck orders, and shutdown -------------------------------------------------------------------------------------------


def test_order_without_progress_is_sent_again_as_stuck() -> None:
    async def program(page: Page) -> Any:
        async with page.following() as stream:
            await events_until(stream, is_ready)
            for worker in ("order", "inventory"):
                await page.post(f"/watch/workers/choreography/{worker}/kill")
            await page.place(modes=["choreography"])
            events = await events_until(stream, lambda event: event["event"] == "order" and event["data"]["stuck"])
            return orders_in(events)

    first, *_, last = run_with_page(program)
    assert (first["stuck"], last["stuck"]) == (False, True)
    assert first["entries"] == last["entries"]
    assert last["waiting"][0]["worker"] == "order"


def test_order_that_needs_attention_is_stuck_at_once() -> None:
    async def program(page: Page) -> Any:
        (order,) = await page.place("delivery:undeliverable,payment:void_error", modes=["orchestrator"])
        await page.at_rest([order])
        return await page.shown(order)

    order = run_with_page(program)
    assert order["stuck"]
    assert order["took_s"] is None
    assert order["moved_at"] - order["began_at"] < STUCK_S


def test_streams_end_on_stop() -> None:
    async def program(page: Page) -> None:
        async with page.following() as stream:
            await events_until(stream, is_ready)
            page.history_stream.stop()
            async with asyncio.timeout(1):
                while await stream._exchange.sent.get():
                    """Read what was in transit; the last chunk of a response is empty."""

    run_with_page(program)
