"""Listener queues on every transport: they receive a copy of every message and drop the oldest when full."""

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from broker.topology import Listener, dropped_queue, queue_of
from broker.transport import Outgoing, Receipt, UnsafeTopology
from tests.support.broker.transports import Deliveries, World, memory_world, message, rabbit_world

LISTENER = "listener"
MAX_LENGTH = 5


@pytest.fixture(params=["memory", pytest.param("rabbit", marks=pytest.mark.real)])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    """A broker with a listener in its topology."""
    async with memory_world() if request.param == "memory" else rabbit_world(request.getfixturevalue("rabbit_url")) as made:
        made.topology = replace(made.topology, listeners=(Listener(LISTENER, MAX_LENGTH),))
        await made.clients[0].declare(made.topology)
        yield made


async def consume_listener(world: World) -> Deliveries:
    received = Deliveries()
    await world.clients[0].consume(queue_of(world.topology.prefix, LISTENER), 100, received)
    return received


async def test_listener_receives_every_kind_of_message(world: World) -> None:
    listener = await consume_listener(world)
    client, topology = world.clients[0], world.topology
    await client.publish([world.command("stock", "a command"), world.event("order.Completed", "a fact")])
    await listener.reach(2)
    await client.publish([Outgoing(topology.retry_address("stock", 0), message("a retry"))])
    await listener.reach(3)
    await client.publish([Outgoing(topology.dead_address("money"), message("a dead letter"))])
    await listener.reach(4)
    assert listener.bodies == [b"a command", b"a fact", b"a retry", b"a dead letter"]


async def test_listener_receives_an_event_with_two_consumers_once(world: World) -> None:
    listener = await consume_listener(world)
    await world.clients[0].publish([world.event("order.Placed", "1"), world.event("order.Placed", "2")])
    await listener.reach(2)


async def test_listener_takes_nothing_from_the_workers(world: World) -> None:
    await consume_listener(world)
    await world.clients[0].publish([world.command("stock"), world.event("order.Placed")])
    await world.depth("stock", 2)
    await world.depth("money", 1)


async def test_full_listener_queue_drops_its_oldest_messages(
    world: World,
) -> None:
    client, listener = world.clients[0], queue_of(world.topology.prefix, LISTENER)
    for number in range(12):
        assert await client.publish([world.command("stock", str(number))]) == [Receipt.CONFIRMED]
    await world.depth(LISTENER, MAX_LENGTH)
    await world.depth(f"{LISTENER}.dropped", 1)
    assert [wire.body for wire in await client.get(listener, 100)] == [b"7", b"8", b"9", b"10", b"11"]
    (dropped,) = await client.get(dropped_queue(listener), 100)
    assert (dropped.body, dropped.headers["x-first-death-reason"]) == (b"6", "maxlen")
    await world.depth("stock", 12)


async def test_deleting_the_topology_deletes_listener_queues(world: World) -> None:
    client = world.clients[0]
    await client.delete(world.topology)
    await client.declare(replace(world.topology, listeners=()))
    for name in (LISTENER, f"{LISTENER}.dropped"):
        with pytest.raises(UnsafeTopology):
            await client.depth(queue_of(world.topology.prefix, name))
