"""What a listener's queue does on every transport: it hears all, takes nothing from anybody, and drops rather than refuse."""

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from broker.topology import Listener, dropped_queue, queue_of
from broker.transport import Outgoing, Receipt, UnsafeTopology
from tests.support.broker.transports import Heard, World, memory_world, message, rabbit_world

EAR = "ear"
MOST = 5


@pytest.fixture(params=["memory", pytest.param("rabbit", marks=pytest.mark.real)])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    """A world with a listener, whose queues are deleted with the others."""
    async with memory_world() if request.param == "memory" else rabbit_world(request.getfixturevalue("rabbit_url")) as made:
        made.topology = replace(made.topology, listeners=(Listener(EAR, MOST),))
        await made.clients[0].declare(made.topology)
        yield made


async def hear(world: World) -> Heard:
    heard = Heard()
    await world.clients[0].consume(queue_of(world.topology.prefix, EAR), 100, heard)
    return heard


async def test_a_listener_hears_commands_events_that_nobody_needs_retries_and_dead_letters(world: World) -> None:
    ear = await hear(world)
    client, topology = world.clients[0], world.topology
    await client.publish([world.command("stock", "a command"), world.event("order.Completed", "a fact")])
    await ear.reach(2)
    await client.publish([Outgoing(topology.retry_address("stock", 0), message("a retry"))])
    await ear.reach(3)
    await client.publish([Outgoing(topology.dead_address("money"), message("a dead letter"))])
    await ear.reach(4)
    assert ear.bodies == [b"a command", b"a fact", b"a retry", b"a dead letter"]


async def test_an_event_with_two_recipients_is_heard_once(world: World) -> None:
    ear = await hear(world)
    await world.clients[0].publish([world.event("order.Placed", "1"), world.event("order.Placed", "2")])
    await ear.reach(2)


async def test_a_listener_takes_nothing_from_the_workers(world: World) -> None:
    await hear(world)
    await world.clients[0].publish([world.command("stock"), world.event("order.Placed")])
    await world.depth("stock", 2)
    await world.depth("money", 1)


async def test_nobody_waits_for_a_listener_that_is_away_its_oldest_are_dropped_and_the_newest_of_these_tells(
    world: World,
) -> None:
    client, ear = world.clients[0], queue_of(world.topology.prefix, EAR)
    for number in range(12):
        assert await client.publish([world.command("stock", str(number))]) == [Receipt.CONFIRMED]
    await world.depth(EAR, MOST)
    await world.depth(f"{EAR}.dropped", 1)
    assert [wire.body for wire in await client.get(ear, 100)] == [b"7", b"8", b"9", b"10", b"11"]
    (told,) = await client.get(dropped_queue(ear), 100)
    assert (told.body, told.headers["x-first-death-reason"]) == (b"6", "maxlen")
    await world.depth("stock", 12)


async def test_deleting_the_topology_removes_the_listeners_queues_too(world: World) -> None:
    client = world.clients[0]
    await client.delete(world.topology)
    await client.declare(replace(world.topology, listeners=()))
    for name in (EAR, f"{EAR}.dropped"):
        with pytest.raises(UnsafeTopology):
            await client.depth(queue_of(world.topology.prefix, name))
