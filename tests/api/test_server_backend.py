"""The door beside a whole mode on RabbitMQ, a MongoDB-wire server and the gateway's own process."""

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
from tests.support.api.http_api import HAPPY_EVENTS, Door, a_door
from tests.support.system import Servers, on_real_parts

pytestmark = pytest.mark.real

#: How many customers come at once.
CROWD = 60
#: How many come at once that do not come again.
FLOOD = 200


@pytest.fixture(scope="module")
def backend(real: Servers, prefix: str) -> Iterator[ServerBackend]:
    """The parts of one mode under a prefix of its own; the door's queue and database are removed at the end as well."""
    yield real.backend(prefix)
    asyncio.run(remove_door(real.backend(prefix)))


async def remove_door(backend: ServerBackend) -> None:
    async with open_transport(backend, "cleaner") as transport:
        await transport.delete(api_topology(backend.prefix))
    servers.drop(backend.store_url, database_name(backend.prefix, NAME))


def test_an_order_goes_through_the_door_and_is_followed_to_its_end(mode: Mode, backend: ServerBackend) -> None:
    async def program(system: System) -> tuple[Reply, list[str], str, Reply]:
        async with a_door(system) as door:
            taken = await door.caller.place()
            order_id = taken.json["order_id"]
            assert (await door.caller.show(order_id))["state"] in ("ACCEPTED", "PENDING")
            async with door.caller.following(f"/orders/{order_id}/events") as stream:
                events = [(await stream.next())["event"] for _ in range(5)]
            await door.ended(system, order_id)
            health = await door.caller.call("GET", "/health/ready")
            return taken, events, (await door.caller.show(order_id))["state"], health

    taken, events, state, health = on_real_parts(mode, backend, program)
    assert taken.status == 202
    assert sorted(events) == sorted(HAPPY_EVENTS)
    assert state == "COMPLETED"
    assert health.json == {"status": "ready", "broker": "connected"}


def test_an_order_is_withdrawn_through_the_door(mode: Mode, backend: ServerBackend) -> None:
    async def program(system: System) -> tuple[int, str, str]:
        async with a_door(system) as door:
            await system.stop("inventory")
            order_id = (await door.caller.place("withdrawn")).json["order_id"]
            await JourneyRun(system).wait_for_queued_step(order_id, "inventory")
            status = (await door.caller.call("DELETE", f"/orders/{order_id}")).status
            await system.wait_until(lambda: recorded(door, order_id), "the withdrawal to be recorded")
            await system.start("inventory")
            await door.ended(system, order_id)
            order = await door.caller.show(order_id)
            return status, order["state"], order["reason"]

    assert on_real_parts(mode, backend, program) == (202, "REJECTED", "withdrawn")


async def recorded(door: Door, order_id: str) -> bool:
    return bool((await door.caller.show(order_id))["withdrawn"])


def test_a_crowd_at_two_doors_loses_and_doubles_no_order(mode: Mode, backend: ServerBackend) -> None:
    """Every customer asks at both doors at once with one key, and asks again when told to."""

    async def taken_at(door: Door, key: str) -> str:
        order = {**AN_ORDER, "lines": [{"sku": "book", "quantity": 1}]}
        while (reply := await door.caller.place(key, order)).status != 202:
            assert reply.status in (409, 503)
            await asyncio.sleep(0.05)
        return str(reply.json["order_id"])

    async def program(system: System) -> None:
        async with a_door(system) as one, a_door(system) as other:
            keys = [f"crowd-{number}" for number in range(CROWD)]
            at_one, at_other = await asyncio.gather(
                *(asyncio.gather(*(taken_at(door, key) for key in keys)) for door in (one, other))
            )
            assert at_one == at_other
            for order_id in at_one:
                await one.ended(system, order_id)
            await system.wait_until_idle()
            seen = await system.snapshot()
            assert set(seen.orders) == set(at_one)
            assert len(seen.orders) == CROWD
            assert audit(seen).ok
            for order_id, order in seen.orders.items():
                known = await one.caller.show(order_id)
                assert (known["state"], known["reason"]) == (str(order.state), order.reason)
            assert await system.client.transport.depth(dead_queue(queue_of(backend.prefix, NAME))) == 0

    on_real_parts(mode, backend, program)


def test_a_flood_is_taken_or_told_to_come_again_and_exactly_what_was_taken_becomes_an_order(
    mode: Mode, backend: ServerBackend
) -> None:
    """Over sockets, at a door that serves a few at once. Nobody asks twice."""

    async def answer(session: aiohttp.ClientSession, url: str, number: int) -> tuple[int, str | None, str | None]:
        headers = {"Idempotency-Key": f"flood-{number}"}
        async with session.post(url, json=AN_ORDER, headers=headers) as response:
            return response.status, response.headers.get("Retry-After"), (await response.json(content_type=None)).get("order_id")

    async def program(system: System) -> None:
        async with a_door(system) as door, served(door, requests_max=8) as url, aiohttp.ClientSession() as session:
            answers = await asyncio.gather(*(answer(session, f"{url}/orders", number) for number in range(FLOOD)))
            taken = {order_id for status, _, order_id in answers if status == 202}
            assert {(status, retry) for status, retry, _ in answers if status != 202} == {(503, "1")}
            assert len(taken) == sum(status == 202 for status, *_ in answers) > 0
            for order_id in taken:
                await door.ended(system, str(order_id))
            await system.wait_until_idle()
            assert set((await system.snapshot()).orders) == taken

    on_real_parts(mode, backend, program)


@asynccontextmanager
async def served(door: Door, *, requests_max: int) -> AsyncIterator[str]:
    """The door's application behind a socket; gives its URL."""
    app = ApiApp(door.orders, door.following, pivot_first=True).application()
    server = uvicorn.Server(uvicorn.Config(RequestLimits(app, requests_max=requests_max), lifespan="off", log_config=None))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            await serving


def test_what_a_door_that_died_before_it_published_owes_is_placed_by_the_next_one(mode: Mode, backend: ServerBackend) -> None:
    async def nothing_confirmed(outgoing: Sequence[Outgoing]) -> list[Receipt]:
        return [Receipt.UNKNOWN] * len(outgoing)

    async def program(system: System) -> tuple[bool, str]:
        async with a_door(system) as door:
            door.orders.worker.transport.publish = nothing_confirmed  # type: ignore[method-assign]
            order_id = (await door.caller.place("died")).json["order_id"]
        async with a_door(system) as door:
            same = (await door.caller.place("died")).json["order_id"] == order_id
            await door.ended(system, order_id)
            return same, (await door.caller.show(order_id))["state"]

    assert on_real_parts(mode, backend, program) == (True, "COMPLETED")
