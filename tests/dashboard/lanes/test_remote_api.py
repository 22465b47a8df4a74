"""Two modes on servers, two doors, one page: each order in both lanes by the same id, and either door may be away."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from api.sample_orders import SAMPLE_ADDRESS, sample_order
from bootstrap.modes import Mode
from dashboard.proxy import REMOTE_EVENTS
from services.vocabulary import Line
from tests.support.dashboard import AN_ORDER, orders_in, upto
from tests.support.dashboard_stack import ORDERS, Stack, a_stack, run_bounded, served
from tests.support.system import MODES

AN_ID = "0190a0a0-0000-7000-8000-000000000001"


def other(mode: Mode) -> Mode:
    (one,) = set(Mode) - {mode}
    return one


@asynccontextmanager
async def two_doors(mode: Mode = Mode.CHOREOGRAPHY) -> AsyncIterator[tuple[Stack, Stack, AsyncExitStack]]:
    """The door of `mode`, that of the other beside it, and what to close for that one to be away."""
    async with AsyncExitStack() as stack:
        there = await stack.enter_async_context(a_stack(other(mode)))
        serving = await stack.enter_async_context(AsyncExitStack())
        url = await serving.enter_async_context(served(there))
        here = await stack.enter_async_context(a_stack(mode, {other(mode): url}))
        yield here, there, serving


async def ended(at: Stack, path: str, order_id: str) -> Any:
    """What is told of an order's end on a stream."""
    async with at.caller.following(path) as stream:
        wanted = lambda event: event["event"] == "order" and event["data"]["took_s"] is not None  # noqa: E731
        while True:
            (told,) = orders_in([(await upto(stream, wanted))[-1]])
            if told["order_id"] == order_id:
                return told


@pytest.mark.parametrize("mode", MODES)
def test_the_lanes_stand_in_one_order_whichever_door_is_looked_through(mode: Mode) -> None:
    async def program() -> None:
        async with two_doors(mode) as (here, _, _):
            lanes = (await here.caller.call("GET", "/watch/lanes")).json["lanes"]
            assert [lane["mode"] for lane in lanes] == ["orchestrator", "choreography"]
            assert {lane["mode"]: lane["events"] for lane in lanes} == {mode: "/watch/events", other(mode): REMOTE_EVENTS}

    run_bounded(program())


@pytest.mark.parametrize("mode", MODES)
def test_an_order_is_placed_at_both_doors_by_one_id_and_seen_in_both_lanes(mode: Mode) -> None:
    async def program() -> None:
        async with two_doors(mode) as (here, there, _):
            said = await here.placed("delivery:undeliverable")
            (order_id,) = {order["order_id"] for order in said["orders"]}
            assert ([order["mode"] for order in said["orders"]], said["not_taken"]) == (list(map(str, Mode)), [])
            told = [await ended(here, "/watch/events", order_id), await ended(here, REMOTE_EVENTS, order_id)]
            assert [one["mode"] for one in told] == [mode, other(mode)]
            assert {one["reason"] for one in told} == {"undeliverable"}
            for at, one in ((here, mode), (there, other(mode))):
                assert (await at.caller.show(order_id))["order_id"] == order_id
                whole = (await here.caller.call("GET", f"{ORDERS}/{one}/{order_id}")).json
                assert whole["messages"][0]["type"] == "order.PlaceOrder"
                newest = (await here.caller.call("GET", f"{ORDERS}?mode={one}")).json["orders"]
                assert [known["order_id"] for known in newest] == [order_id]

    run_bounded(program())


def test_orders_that_are_drawn_fail_alike_and_one_that_is_taken_back_is_taken_back_in_both() -> None:
    async def program() -> None:
        async with two_doors() as (here, there, _):
            said = await here.placed("payment:declined=50%", count=70, seed=3)
            ids = sorted({order["order_id"] for order in said["orders"]})
            assert (len(ids), len(said["orders"]), said["not_taken"]) == (70, 140, [])

            async def declined(at: Stack) -> set[str]:
                for order_id in ids:
                    await at.door.ended(at.system, order_id)
                orders = (await at.caller.call("GET", "/orders?limit=100")).json["orders"]
                return {order["order_id"] for order in orders if order["reason"] == "payment_declined"}

            failed = await declined(here)
            assert 20 <= len(failed) <= 50
            assert failed == await declined(there)
            (order_id, _) = [order["order_id"] for order in (await here.placed("customer:withdraws"))["orders"]]
            for at in (here, there):
                await at.door.ended(at.system, order_id)
                assert (await at.caller.show(order_id))["reason"] == "withdrawn"

    run_bounded(program())


def test_an_order_is_taken_back_at_the_door_beside_and_an_unknown_one_is_not() -> None:
    async def program() -> None:
        async with two_doors() as (here, there, _):
            (order_id, _) = [order["order_id"] for order in (await here.placed("inventory:slow"))["orders"]]
            assert (await here.post(f"{ORDERS}/{there.system.mode}/{order_id}/withdraw")).status == 202
            await there.door.ended(there.system, order_id)
            assert (await there.caller.show(order_id))["reason"] == "withdrawn"
            unknown = await here.post(f"{ORDERS}/{there.system.mode}/{AN_ID}/withdraw")
            assert (unknown.status, unknown.reason) == (404, "no_such_order")

    run_bounded(program())


def test_while_the_door_beside_is_away_orders_are_taken_here_and_the_page_says_who_did_not() -> None:
    async def program() -> None:
        async with two_doors() as (here, there, serving):
            await serving.aclose()
            said = await here.placed(count=3)
            assert [order["mode"] for order in said["orders"]] == [here.system.mode] * 3
            (missing,) = said["not_taken"]
            assert (missing["mode"], missing["count"]) == (there.system.mode, 3)
            assert missing["why"].startswith(f"the door of {there.system.mode} does not answer")
            reply = await here.caller.call("GET", REMOTE_EVENTS)
            assert (reply.status, reply.reason) == (503, "observer_away")
            only_there = await here.post(ORDERS, {**AN_ORDER, "modes": [there.system.mode]})
            assert (only_there.status, only_there.reason) == (503, "not_taken")
            async with here.caller.following("/watch/events") as stream:
                await upto(stream, lambda event: event["event"] == "ready")

    run_bounded(program())


def test_the_same_id_again_is_no_second_order_and_anothers_is_refused() -> None:
    async def program() -> None:
        async with a_stack(Mode.CHOREOGRAPHY) as at:
            for _ in range(2):
                assert await at.ids(order_id=AN_ID) == [AN_ID]
            another = await at.post(ORDERS, {**AN_ORDER, "order_id": AN_ID, "customer": "Bo"})
            assert (another.status, another.reason) == (503, "not_taken")
            theirs = (await at.caller.place()).json["order_id"]
            taken = await at.post(ORDERS, {**AN_ORDER, "order_id": theirs})
            assert (taken.status, taken.reason) == (503, "not_taken")
            assert "its id belongs to another order" in taken.json["detail"]
            orders = (await at.caller.call("GET", "/orders")).json["orders"]
            assert {order["order_id"] for order in orders} == {AN_ID, theirs}

    run_bounded(program())


def test_an_id_that_is_the_key_of_another_order_is_refused() -> None:
    async def program() -> None:
        async with a_stack(Mode.CHOREOGRAPHY) as at:
            details = sample_order(
                [Line(**line) for line in AN_ORDER["lines"]], SAMPLE_ADDRESS.model_copy(update={"name": "Ada"})
            )
            theirs = await at.caller.place(AN_ID, details.model_dump(mode="json"))
            taken = await at.post(ORDERS, {**AN_ORDER, "order_id": AN_ID})
            assert (theirs.status, taken.status, taken.reason) == (202, 503, "not_taken")
            assert (await at.caller.call("GET", f"/orders/{AN_ID}")).status == 404

    run_bounded(program())


@pytest.mark.parametrize("more", [{"order_id": "me"}, {"order_id": AN_ID, "count": 2}, {"order_id": 7}])
def test_an_id_that_nobody_can_have_is_refused(more: dict[str, Any]) -> None:
    async def program() -> None:
        async with a_stack(Mode.CHOREOGRAPHY) as at:
            refused = await at.post(ORDERS, {**AN_ORDER, **more})
            assert (refused.status, refused.reason) == (422, "wrong_schema")

    run_bounded(program())


def test_one_order_asked_for_twice_at_once_is_one_order() -> None:
    async def program() -> None:
        async with a_stack(Mode.ORCHESTRATOR) as at:
            body = {**AN_ORDER, "order_id": AN_ID}
            replies = await asyncio.gather(*(at.post(ORDERS, body) for _ in range(4)))
            assert {reply.status for reply in replies} <= {202, 503}
            assert 202 in {reply.status for reply in replies}
            assert len((await at.caller.call("GET", "/orders")).json["orders"]) == 1

    run_bounded(program())
