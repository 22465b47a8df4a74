"""The dashboard at an HTTP API: queries go to the observer's process, orders to the API, also while the observer is away.

A whole mode in memory in real time, and real sockets between API and observer.
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
from tests.support.dashboard import AN_ORDER, events_until
from tests.support.dashboard_stack import ORDERS, Counts, open_stack, run_bounded
from tests.support.system import MODES


@pytest.mark.parametrize("mode", MODES)
def test_order_from_the_page_is_placed_and_observed(mode: Mode) -> None:
    async def program() -> None:
        async with open_stack(mode) as at:
            async with at.caller.following("/watch/events") as stream:
                await events_until(stream, lambda event: event["event"] == "ready")
                (order_id,) = await at.place_all("payment:declined")
                rejected = lambda event: event["event"] == "order" and event["data"]["state"] == "REJECTED"  # noqa: E731
                order = (await events_until(stream, rejected))[-1]["data"]
                assert (order["order_id"], order["reason"]) == (order_id, "payment_declined")
            stored = await at.caller.call("GET", f"/orders/{order_id}")
            assert stored.status == 200
            shown = (await at.caller.call("GET", f"{ORDERS}/{mode}/{order_id}")).json
            assert shown["messages"][0]["type"] == "order.PlaceOrder"
            newest = (await at.caller.call("GET", f"{ORDERS}?mode={mode}&limit=1")).json
            assert [one["order_id"] for one in newest["orders"]] == [order_id]

    run_bounded(program())


def test_generated_orders_are_placed_and_can_be_withdrawn() -> None:
    async def program() -> None:
        async with open_stack(Mode.CHOREOGRAPHY) as at:
            ids = await at.place_all(count=70, seed=3)
            assert len(set(ids)) == 70
            (order_id,) = await at.place_all("inventory:slow")
            assert (await at.post(f"{ORDERS}/choreography/{order_id}/withdraw")).status == 202
            unknown = await at.post(f"{ORDERS}/choreography/0190a0a0-0000-7000-8000-000000000000/withdraw")
            assert (unknown.status, unknown.reason) == (404, "no_such_order")

    run_bounded(program())


@pytest.mark.parametrize("error", [TooManyRequests(), CommitTimeout(), StoreUnavailable("away")])
def test_refused_order_is_reported_and_failed_withdrawal_is_not(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*_: object, **__: object) -> None:
        raise error

    async def program() -> None:
        async with open_stack(Mode.CHOREOGRAPHY) as at:
            monkeypatch.setattr(at.api.orders, "withdraw", refuse)
            assert len(await at.place_all("customer:withdraws")) == 1
            monkeypatch.setattr(at.api.orders, "place", refuse)
            reply = await at.post(ORDERS, AN_ORDER)
            assert (reply.status, reply.reason) == (503, "not_taken")

    run_bounded(program())


def test_orders_are_accepted_while_the_observer_is_away() -> None:
    async def program() -> None:
        async with open_stack(Mode.ORCHESTRATOR) as at:
            await at.observing.aclose()
            for path in ("/watch/events", f"{ORDERS}?mode=orchestrator"):
                reply = await at.caller.call("GET", path)
                assert (reply.status, reply.reason) == (503, "observer_away")
                assert "retry-after" in reply.headers
            assert (await at.caller.call("GET", "/watch/lanes")).status == 200
            await at.place_all()

    run_bounded(program())


def test_stream_ends_with_the_api_and_with_the_observer() -> None:
    async def program() -> None:
        for end in (lambda at: at.page.stop(), lambda at: at.observing.aclose()):
            async with open_stack(Mode.CHOREOGRAPHY) as at:
                stream = asyncio.create_task(at.caller.call("GET", "/watch/events"))
                await asyncio.sleep(0.5)
                assert not stream.done()
                if (ended := end(at)) is not None:
                    await ended
                assert b"event: ready" in (await stream).body

    run_bounded(program())


def test_workers_cannot_be_killed_and_api_paths_stay_reachable() -> None:
    async def program() -> None:
        async with open_stack(Mode.CHOREOGRAPHY) as at:
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


def test_status_names_idle_queues_dead_letters_and_an_absent_broker() -> None:
    async def program() -> None:
        mode = Mode.CHOREOGRAPHY
        payment, order = queue_of(mode, "payment"), queue_of(mode, "order")
        backend = MemoryBackend(mode)
        counts = Counts({payment: (7, 0), dead_queue(order): (2, 0)})
        lane = ObserverLane(mode, counts, backend.store(OBSERVER), backend.environment.now)
        status = await lane.status()
        assert set(status.faults) == {"payment is down: its queue has no consumer", "order has 2 dead letters"}
        assert {worker.name: worker.up for worker in status.workers}["payment"] is False
        assert {queue.name: (queue.depth, queue.consumers) for queue in status.queues}[payment] == (7, 0)
        assert {queue.name for queue in status.queues} == set(with_observer(topology(mode)).queue_names())
        away = ObserverLane(mode, Counts(None), backend.store(OBSERVER), backend.environment.now)
        status = await away.status()
        assert status.faults == ("queue counts are unavailable: the broker did not respond",)
        assert all(worker.up for worker in status.workers)

    run_bounded(program())


@pytest.mark.parametrize("disconnects", [False, True])
def test_incomplete_response_of_the_observer_counts_as_away(disconnects: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dashboard.proxy.PEER_TIMEOUT_S", 0.5)

    async def send_half_a_response(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{")
        await writer.drain()
        if not disconnects:
            await reader.read()  # until the client closes the connection
        writer.close()
        await writer.wait_closed()

    async def program() -> None:
        async with await asyncio.start_server(send_half_a_response, "127.0.0.1", 0) as server:
            proxied = ProxiedQueries(Mode.CHOREOGRAPHY, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
            page = DashboardApp([], proxied, seed=1, new_id=str, articles=[])
            reply = await Caller(SecurityHeaders(page.application())).call("GET", f"{ORDERS}?mode=choreography")
            assert (reply.status, reply.reason) == (503, "observer_away")
            await proxied.close()
            await asyncio.sleep(0.05)  # until the server has seen the connection close

    run_bounded(program())
