"""The page at a door: it looks through the observer's process, asks at the desk, and goes on when the observer is away.

A whole mode in memory in real time, and real sockets between door and observer.
"""

import asyncio
import json

import pytest

from api.orders import CommitTimeout, TooManyRequests
from bootstrap.memory_backend import MemoryBackend
from bootstrap.modes import Mode, topology
from broker.topology import dead_queue, queue_of
from dashboard.app import DashboardApp
from dashboard.lanes.observer import ObserverLane
from dashboard.proxy import ProxiedQueries
from dashboard.security_headers import SecurityHeaders
from observer.recorder import NAME as OBSERVER
from observer.recorder import with_observer
from store.protocol import StoreUnavailable
from tests.support.api.asgi_client import Caller
from tests.support.dashboard import AN_ORDER, upto
from tests.support.dashboard_stack import ORDERS, Counts, a_stack, run_bounded
from tests.support.system import MODES


@pytest.mark.parametrize("mode", MODES)
def test_an_order_from_the_page_is_placed_at_the_desk_and_seen_through_the_observer(mode: Mode) -> None:
    async def program() -> None:
        async with a_stack(mode) as at:
            async with at.caller.following("/watch/events") as stream:
                await upto(stream, lambda event: event["event"] == "ready")
                (order_id,) = await at.ids("payment:declined")
                told = (await upto(stream, lambda event: event["event"] == "order" and event["data"]["state"] == "REJECTED"))[-1]
                assert (told["data"]["order_id"], told["data"]["reason"]) == (order_id, "payment_declined")
            known = await at.caller.call("GET", f"/orders/{order_id}")
            assert known.status == 200
            shown = (await at.caller.call("GET", f"{ORDERS}/{mode}/{order_id}")).json
            assert shown["messages"][0]["type"] == "order.PlaceOrder"
            newest = (await at.caller.call("GET", f"{ORDERS}?mode={mode}&limit=1")).json
            assert [one["order_id"] for one in newest["orders"]] == [order_id]

    run_bounded(program())


def test_orders_that_are_drawn_and_withdrawn_go_through_the_desk_too() -> None:
    async def program() -> None:
        async with a_stack(Mode.CHOREOGRAPHY) as at:
            ids = await at.ids(count=70, seed=3)
            assert len(set(ids)) == 70
            (order_id,) = await at.ids("inventory:slow")
            assert (await at.post(f"{ORDERS}/choreography/{order_id}/withdraw")).status == 202
            unknown = await at.post(f"{ORDERS}/choreography/0190a0a0-0000-7000-8000-000000000000/withdraw")
            assert (unknown.status, unknown.reason) == (404, "no_such_order")

    run_bounded(program())


@pytest.mark.parametrize("error", [TooManyRequests(), CommitTimeout(), StoreUnavailable("away")])
def test_what_the_desk_cannot_take_is_said_and_what_it_took_is_not_denied(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: object, **__: object) -> None:
        raise error

    async def program() -> None:
        async with a_stack(Mode.CHOREOGRAPHY) as at:
            monkeypatch.setattr(at.door.orders, "withdraw", refuse)
            assert len(await at.ids("customer:withdraws")) == 1
            monkeypatch.setattr(at.door.orders, "place", refuse)
            reply = await at.post(ORDERS, AN_ORDER)
            assert (reply.status, reply.reason) == (503, "not_taken")

    run_bounded(program())


def test_when_the_observer_is_away_orders_are_taken_and_the_page_says_why_it_sees_nothing() -> None:
    async def program() -> None:
        async with a_stack(Mode.ORCHESTRATOR) as at:
            await at.observing.aclose()
            for path in ("/watch/events", f"{ORDERS}?mode=orchestrator"):
                reply = await at.caller.call("GET", path)
                assert (reply.status, reply.reason) == (503, "observer_away")
                assert "retry-after" in reply.headers
            assert (await at.caller.call("GET", "/watch/lanes")).status == 200
            await at.ids()

    run_bounded(program())


def test_a_stream_ends_when_the_door_is_told_to_stop_and_when_the_observer_ends() -> None:
    async def program() -> None:
        for end in (lambda at: at.page.stop(), lambda at: at.observing.aclose()):
            async with a_stack(Mode.CHOREOGRAPHY) as at:
                stream = asyncio.create_task(at.caller.call("GET", "/watch/events"))
                await asyncio.sleep(0.5)
                assert not stream.done()
                if (ended := end(at)) is not None:
                    await ended
                assert b"event: ready" in (await stream).body

    run_bounded(program())


def test_workers_are_not_killed_from_a_door_and_its_own_paths_stay_its_own() -> None:
    async def program() -> None:
        async with a_stack(Mode.CHOREOGRAPHY) as at:
            lanes = (await at.caller.call("GET", "/watch/lanes")).json["lanes"]
            assert [(lane["mode"], lane["can_kill"]) for lane in lanes] == [("choreography", False)]
            refused = await at.post("/watch/workers/choreography/payment/kill")
            assert (refused.status, refused.reason) == (404, "cannot_kill")
            forged = await at.caller.call("POST", ORDERS, json.dumps(AN_ORDER).encode(), content_type="application/json")
            assert (forged.status, forged.reason) == (403, "no_proof")
            assert (await at.caller.place()).status == 202
            page = await at.caller.call("GET", "/")
            assert (page.status, page.headers["content-type"].split(";")[0]) == (200, "text/html")

    run_bounded(program())


def test_a_queue_without_a_consumer_and_dead_letters_are_faults_and_a_broker_that_is_away_is_said() -> None:
    async def program() -> None:
        mode = Mode.CHOREOGRAPHY
        payment, order = queue_of(mode, "payment"), queue_of(mode, "order")
        backend = MemoryBackend(mode)
        counts = Counts({payment: (7, 0), dead_queue(order): (2, 0)})
        lane = ObserverLane(mode, counts, backend.store(OBSERVER), backend.environment.now)
        status = await lane.status()
        assert set(status.faults) == {"payment is down: nobody consumes its queue", "order has 2 dead letters"}
        assert {worker.name: worker.up for worker in status.workers}["payment"] is False
        assert {queue.name: (queue.depth, queue.consumers) for queue in status.queues}[payment] == (7, 0)
        assert {queue.name for queue in status.queues} == set(with_observer(topology(mode)).queue_names())
        away = ObserverLane(mode, Counts(None), backend.store(OBSERVER), backend.environment.now)
        status = await away.status()
        assert status.faults == ("the broker does not say how its queues are",)
        assert all(worker.up for worker in status.workers)

    run_bounded(program())


@pytest.mark.parametrize("breaks_off", [False, True])
def test_an_observer_that_hangs_in_the_middle_of_an_answer_or_breaks_off_is_away(
    breaks_off: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dashboard.proxy.PEER_TIMEOUT_S", 0.5)

    async def half_an_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{")
        await writer.drain()
        if not breaks_off:
            await reader.read()  # until the other end gives up
        writer.close()
        await writer.wait_closed()

    async def program() -> None:
        async with await asyncio.start_server(half_an_answer, "127.0.0.1", 0) as server:
            relayed = ProxiedQueries(Mode.CHOREOGRAPHY, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
            page = DashboardApp([], relayed, seed=1, new_id=str, articles=[])
            reply = await Caller(SecurityHeaders(page.application())).call("GET", f"{ORDERS}?mode=choreography")
            assert (reply.status, reply.reason) == (503, "observer_away")
            await relayed.close()
            await asyncio.sleep(0.05)  # the other end sees it

    run_bounded(program())
