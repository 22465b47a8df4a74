"""Two modes with an HTTP API each, and one page: each order in both lanes under one id, also while one API is away."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from api.sample_orders import SAMPLE_ADDRESS, sample_order
from bootstrap.modes import Mode
from dashboard.proxy import REMOTE_EVENTS
from services.vocabulary import Line
from tests.support.dashboard import AN_ORDER, events_until, orders_in
from tests.support.dashboard_stack import ORDERS, Stack, open_stack, run_bounded, served
from tests.support.system import MODES

AN_ID = "0190a0a0-0000-7000-8000-000000000001"


def other(mode: Mode) -> Mode:
    (one,) = set(Mode) - {mode}
    return one


@asynccontextmanager
async def two_apis(mode: Mode = Mode.CHOREOGRAPHY) -> AsyncIterator[tuple[Stack, Stack, AsyncExitStack]]:
    """The API of `mode` with that of the other mode beside it, and the stack to close to take that one away."""
    async with AsyncExitStack() as stack:
        there = await stack.enter_async_context(open_stack(other(mode)))
        serving = await stack.enter_async_context(AsyncExitStack())
        url = await serving.enter_async_context(served(there))
        here = await stack.enter_async_context(open_stack(mode, {other(mode): url}))
        yield here, there, serving


async def final_history(at: Stack, path: str, order_id: str) -> Any:
    """An order's history from a stream, once it has ended."""
    async with at.caller.following(path) as stream:
        wanted = lambda event: event["event"] == "order" and event["data"]["took_s"] is not None  # noqa: E731
        while True:
            (order,) = orders_in([(await events_until(stream, wanted))[-1]])
            if order["order_id"] == order_id:
                return order


@pytest.mark.parametrize("mode", MODES)
def test_lanes_have_the_same_order_at_either_api(mode: Mode) -> None:
    async def program() -> None:
        async with two_apis(mode) as (here, _, _):
            lanes = (await here.caller.call("GET", "/watch/lanes")).json["lanes"]
            assert [lane["mode"] for lane in lanes] == ["orchestrator", "choreography"]
            assert {lane["mode"]: lane["events"] for lane in lanes} == {mode: "/watch/events", other(mode): REMOTE_EVENTS}

    run_bounded(program())


@pytest.mark.parametrize("mode", MODES)
def test_order_is_placed_at_both_apis_under_one_id(mode: Mode) -> None:
    async def program() -> None:
        async with two_apis(mode) as (here, there, _):
            reply = await here.place("delivery:undeliverable")
            (order_id,) = {order["order_id"] for order in reply["orders"]}
            assert ([order["mode"] for order in reply["orders"]], reply["not_taken"]) == (list(map(str, Mode)), [])
            histories = [await final_history(here, "/watch/events", order_id), await final_history(here, REMOTE_EVENTS, order_id)]
            assert [one["mode"] for one in histories] == [mode, other(mode)]
            assert {one["reason"] for one in histories} == {"undeliverable"}
            for at, one in ((here, mode), (there, other(mode))):
                assert (await at.caller.show(order_id))["order_id"] == order_id
                whole = (await here.caller.call("GET", f"{ORDERS}/{one}/{order_id}")).json
                assert whole["messages"][0]["type"] == "order.PlaceOrder"
                newest = (await here.caller.call("GET", f"{ORDERS}?mode={one}")).json["orders"]
                assert [known["order_id"] for known in newest] == [order_id]

    run_bounded(program())


def test_generated_orders_fail_and_withdraw_alike_at_both_apis() -> None:
    async def program() -> None:
        async with two_apis() as (here, there, _):
            reply = await here.place("payment:declined=50%", count=70, seed=3)
            ids = sorted({order["order_id"] for order in reply["orders"]})
            assert (len(ids), len(reply["orders"]), reply["not_taken"]) == (70, 140, [])

            async def declined(at: Stack) -> set[str]:
                for order_id in ids:
                    await at.api.ended(at.system, order_id)
                orders = (await at.caller.call("GET", "/orders?limit=100")).json["orders"]
                return {order["order_id"] for order in orders if order["reason"] == "payment_declined"}

            failed = await declined(here)
            assert 20 <= len(failed) <= 50
            assert failed == await declined(there)
            (order_id, _) = [order["order_id"] for order in (await here.place("customer:withdraws"))["orders"]]
            for at in (here, there):
                await at.api.ended(at.system, order_id)
                assert (await at.caller.show(order_id))["reason"] == "withdrawn"

    run_bounded(program())


def test_order_is_withdrawn_at_the_other_api_and_unknown_is_404() -> None:
    async def program() -> None:
        async with two_apis() as (here, there, _):
            (order_id, _) = [order["order_id"] for order in (await here.place("inventory:slow"))["orders"]]
            assert (await here.post(f"{ORDERS}/{there.system.mode}/{order_id}/withdraw")).status == 202
            await there.api.ended(there.system, order_id)
            assert (await there.caller.show(order_id))["reason"] == "withdrawn"
            unknown = await here.post(f"{ORDERS}/{there.system.mode}/{AN_ID}/withdraw")
            assert (unknown.status, unknown.reason) == (404, "no_such_order")

    run_bounded(program())


def test_orders_are_accepted_here_while_the_other_api_is_away() -> None:
    async def program() -> None:
        async with two_apis() as (here, there, serving):
            await serving.aclose()
            reply = await here.place(count=3)
            assert [order["mode"] for order in reply["orders"]] == [here.system.mode] * 3
            (missing,) = reply["not_taken"]
            assert (missing["mode"], missing["count"]) == (there.system.mode, 3)
            assert missing["why"].startswith(f"the HTTP API of {there.system.mode} does not respond")
            reply = await here.caller.call("GET", REMOTE_EVENTS)
            assert (reply.status, reply.reason) == (503, "observer_away")
            only_there = await here.post(ORDERS, {**AN_ORDER, "modes": [there.system.mode]})
            assert (only_there.status, only_there.reason) == (503, "not_taken")
            async with here.caller.following("/watch/events") as stream:
                await events_until(stream, lambda event: event["event"] == "ready")

    run_bounded(program())


def test_repeated_id_is_the_same_order_and_a_foreign_id_is_refused() -> None:
    async def program() -> None:
        async with open_stack(Mode.CHOREOGRAPHY) as at:
            for _ in range(2):
                assert await at.place_all(order_id=AN_ID) == [AN_ID]
            another = await at.post(ORDERS, {**AN_ORDER, "order_id": AN_ID, "customer": "Bo"})
            assert (another.status, another.reason) == (503, "not_taken")
            theirs = (await at.caller.place()).json["order_id"]
            taken = await at.post(ORDERS, {**AN_ORDER, "order_id": theirs})
            assert (taken.status, taken.reason) == (503, "not_taken")
            assert "its id belongs to another order" in taken.json["detail"]
            orders = (await at.caller.call("GET", "/orders")).json["orders"]
            assert {order["order_id"] for order in orders} == {AN_ID, theirs}

    run_bounded(program())


def test_id_that_is_the_key_of_another_order_is_refused() -> None:
    async def program() -> None:
        async with open_stack(Mode.CHOREOGRAPHY) as at:
            details = sample_order(
                [Line(**line) for line in AN_ORDER["lines"]], SAMPLE_ADDRESS.model_copy(update={"name": "Ada"})
            )
            theirs = await at.caller.place(AN_ID, details.model_dump(mode="json"))
            taken = await at.post(ORDERS, {**AN_ORDER, "order_id": AN_ID})
            assert (theirs.status, taken.status, taken.reason) == (202, 503, "not_taken")
            assert (await at.caller.call("GET", f"/orders/{AN_ID}")).status == 404

    run_bounded(program())


@pytest.mark.parametrize("more", [{"order_id": "me"}, {"order_id": AN_ID, "count": 2}, {"order_id": 7}])
def test_invalid_order_id_is_refused(more: dict[str, Any]) -> None:
    async def program() -> None:
        async with open_stack(Mode.CHOREOGRAPHY) as at:
            refused = await at.post(ORDERS, {**AN_ORDER, **more})
            assert (refused.status, refused.reason) == (422, "wrong_schema")

    run_bounded(program())


def test_concurrent_requests_with_one_id_place_one_order() -> None:
    async def program() -> None:
        async with open_stack(Mode.ORCHESTRATOR) as at:
            body = {**AN_ORDER, "order_id": AN_ID}
            replies = await asyncio.gather(*(at.post(ORDERS, body) for _ in range(4)))
            assert {reply.status for reply in replies} <= {202, 503}
            assert 202 in {reply.status for reply in replies}
            assert len((await at.caller.call("GET", "/orders")).json["orders"]) == 1

    run_bounded(program())
