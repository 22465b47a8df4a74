"""The API beside a whole mode on RabbitMQ, a MongoDB-wire server and the payment gateway's process."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager

import aiohttp
import pytest
import uvicorn

from api.app import ApiApp
from api.messages import NAME
from api.orders import api_topology
from api.request_limits import RequestLimits
from bootstrap.connections import open_transport
from bootstrap.modes import Mode, database_name
from bootstrap.server_backend import ServerBackend
from broker.topology import dead_queue, queue_of
from broker.transport import Outgoing, Receipt
from lab.journeys.run import JourneyRun
from lab.system import System
from ops.audit import audit
from tests.support import servers
from tests.support.api.asgi_client import AN_ORDER, Reply
from tests.support.api.http_api import HAPPY_EVENTS, RunningApi, running_api
from tests.support.system import Servers, on_servers

pytestmark = pytest.mark.real

#: Concurrent clients that retry.
CLIENTS = 60
#: Concurrent requests that are not retried.
REQUESTS = 200


@pytest.fixture(scope="module")
def backend(real: Servers, prefix: str) -> Iterator[ServerBackend]:
    """The parts of one mode under a prefix of its own; the API's queue and database are removed at the end as well."""
    yield real.backend(prefix)
    asyncio.run(remove_api(real.backend(prefix)))


async def remove_api(backend: ServerBackend) -> None:
    async with open_transport(backend, "cleaner") as transport:
        await transport.delete(api_topology(backend.prefix))
    servers.drop(backend.store_url, database_name(backend.prefix, NAME))


def test_order_is_placed_and_followed_to_its_end(mode: Mode, backend: ServerBackend) -> None:
    async def program(system: System) -> tuple[Reply, list[str], str, Reply]:
        async with running_api(system) as api:
            accepted = await api.caller.place()
            order_id = accepted.json["order_id"]
            assert (await api.caller.show(order_id))["state"] in ("ACCEPTED", "PENDING")
            async with api.caller.following(f"/orders/{order_id}/events") as stream:
                events = [(await stream.next())["event"] for _ in range(5)]
            await api.ended(system, order_id)
            health = await api.caller.call("GET", "/health/ready")
            return accepted, events, (await api.caller.show(order_id))["state"], health

    accepted, events, state, health = on_servers(mode, backend, program)
    assert accepted.status == 202
    assert sorted(events) == sorted(HAPPY_EVENTS)
    assert state == "COMPLETED"
    assert health.json == {"status": "ready", "broker": "connected"}


def test_order_is_withdrawn(mode: Mode, backend: ServerBackend) -> None:
    async def program(system: System) -> tuple[int, str, str]:
        async with running_api(system) as api:
            await system.stop("inventory")
            order_id = (await api.caller.place("withdrawn")).json["order_id"]
            await JourneyRun(system).wait_for_queued_step(order_id, "inventory")
            status = (await api.caller.call("DELETE", f"/orders/{order_id}")).status
            await system.wait_until(lambda: recorded(api, order_id), "the withdrawal to be recorded")
            await system.start("inventory")
            await api.ended(system, order_id)
            order = await api.caller.show(order_id)
            return status, order["state"], order["reason"]

    assert on_servers(mode, backend, program) == (202, "REJECTED", "withdrawn")


async def recorded(api: RunningApi, order_id: str) -> bool:
    return bool((await api.caller.show(order_id))["withdrawn"])


def test_many_clients_at_two_replicas_lose_and_double_no_order(mode: Mode, backend: ServerBackend) -> None:
    """Every client sends its order to both replicas at once with one key, and retries on 409 and 503."""

    async def place_until_accepted(api: RunningApi, key: str) -> str:
        order = {**AN_ORDER, "lines": [{"sku": "book", "quantity": 1}]}
        while (reply := await api.caller.place(key, order)).status != 202:
            assert reply.status in (409, 503)
            await asyncio.sleep(0.05)
        return str(reply.json["order_id"])

    async def program(system: System) -> None:
        async with running_api(system) as one, running_api(system) as other:
            keys = [f"client-{number}" for number in range(CLIENTS)]
            at_one, at_other = await asyncio.gather(
                *(asyncio.gather(*(place_until_accepted(api, key) for key in keys)) for api in (one, other))
            )
            assert at_one == at_other
            for order_id in at_one:
                await one.ended(system, order_id)
            await system.wait_until_idle()
            seen = await system.snapshot()
            assert set(seen.orders) == set(at_one)
            assert len(seen.orders) == CLIENTS
            assert audit(seen).ok
            for order_id, order in seen.orders.items():
                known = await one.caller.show(order_id)
                assert (known["state"], known["reason"]) == (str(order.state), order.reason)
            assert await system.client.transport.depth(dead_queue(queue_of(backend.prefix, NAME))) == 0

    on_servers(mode, backend, program)


def test_flood_of_requests_makes_exactly_the_accepted_orders(mode: Mode, backend: ServerBackend) -> None:
    """Over sockets, with an API that serves few requests at once. No client retries."""

    async def answer(session: aiohttp.ClientSession, url: str, number: int) -> tuple[int, str | None, str | None]:
        headers = {"Idempotency-Key": f"request-{number}"}
        async with session.post(url, json=AN_ORDER, headers=headers) as response:
            return response.status, response.headers.get("Retry-After"), (await response.json(content_type=None)).get("order_id")

    async def program(system: System) -> None:
        async with running_api(system) as api, served(api, requests_max=8) as url, aiohttp.ClientSession() as session:
            answers = await asyncio.gather(*(answer(session, f"{url}/orders", number) for number in range(REQUESTS)))
            accepted = {order_id for status, _, order_id in answers if status == 202}
            assert {(status, retry) for status, retry, _ in answers if status != 202} == {(503, "1")}
            assert len(accepted) == sum(status == 202 for status, *_ in answers) > 0
            for order_id in accepted:
                await api.ended(system, str(order_id))
            await system.wait_until_idle()
            assert set((await system.snapshot()).orders) == accepted

    on_servers(mode, backend, program)


@asynccontextmanager
async def served(api: RunningApi, *, requests_max: int) -> AsyncIterator[str]:
    """Serve the API's application on a socket; yields its URL."""
    app = ApiApp(api.orders, api.event_streams, pivot_first=True).application()
    server = uvicorn.Server(uvicorn.Config(RequestLimits(app, requests_max=requests_max), lifespan="off", log_config=None))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            await serving


def test_outbox_of_a_crashed_api_is_published_by_the_next_one(mode: Mode, backend: ServerBackend) -> None:
    async def nothing_confirmed(outgoing: Sequence[Outgoing]) -> list[Receipt]:
        return [Receipt.UNKNOWN] * len(outgoing)

    async def program(system: System) -> tuple[bool, str]:
        async with running_api(system) as api:
            api.orders.worker.transport.publish = nothing_confirmed  # type: ignore[method-assign]
            order_id = (await api.caller.place("died")).json["order_id"]
        async with running_api(system) as api:
            same = (await api.caller.place("died")).json["order_id"] == order_id
            await api.ended(system, order_id)
            return same, (await api.caller.show(order_id))["state"]

    assert on_servers(mode, backend, program) == (True, "COMPLETED")
