"""Routes of deliveries, and the topology check, in memory and on a real RabbitMQ."""

from dataclasses import replace

import pytest

from broker.topology import WorkQueue, commands_exchange, dead_queue, events_exchange, retry_exchange
from broker.transport import Outgoing, QueueMissing, Receipt, Transport
from tests.support.broker.transports import QUEUES, Deliveries, World, consume, message


async def test_delivery_names_the_exchange_and_type_it_was_routed_by(world: World, client: Transport) -> None:
    stock, prefix = await consume(world, client, "stock"), world.topology.prefix
    await client.publish([world.command("stock", type="says something else"), world.event("order.Placed")])
    await stock.reach(2)
    routes = [(delivery.exchange, delivery.routing_key) for delivery in stock]
    assert routes == [(commands_exchange(prefix), "stock.Do"), (events_exchange(prefix), "order.Placed")]


@pytest.mark.parametrize("level", [0, 1])
async def test_retry_arrives_under_its_queue_name_with_its_type(world: World, client: Transport, level: int) -> None:
    stock, money = await consume(world, client, "stock"), await consume(world, client, "money")
    retry = Outgoing(world.topology.retry_address("stock", level), message("again", type="stock.Do"), 0.01)
    assert await client.publish([retry]) == [Receipt.CONFIRMED]
    await stock.reach(1)
    assert (stock[0].exchange, stock[0].routing_key) == (retry_exchange(world.topology.prefix), world.queue("stock"))
    assert (stock[0].wire.type, stock[0].wire.body) == ("stock.Do", b"again")
    assert not money


async def test_requeued_delivery_keeps_its_route(world: World, client: Transport) -> None:
    stock = await consume(world, client, "stock")
    await client.publish([world.command("stock")])
    await stock.reach(1)
    await client.requeue(stock)
    await stock.reach(2)
    assert (stock[1].exchange, stock[1].routing_key) == (stock[0].exchange, stock[0].routing_key)


@pytest.mark.parametrize("how", ["published", "requeued too often"])
async def test_dead_letter_is_routed_by_the_name_of_its_queue(world: World, client: Transport, how: str) -> None:
    dead = dead_queue(world.queue("stock"))
    if how == "published":
        await client.publish([Outgoing(world.topology.dead_address("stock"), message())])
    else:
        stock = await consume(world, client, "stock")
        await client.publish([world.command("stock")])
        for times in range(1, world.topology.delivery_limit + 2):
            await stock.reach(times)
            await client.requeue(stock[-1:])
    letters = Deliveries()
    await client.consume(dead, 10, letters)
    await letters.reach(1)
    assert (letters[0].exchange, letters[0].routing_key) == (retry_exchange(world.topology.prefix), dead)


async def test_check_names_the_first_missing_object(world: World, client: Transport) -> None:
    await client.check(world.topology)
    mail = WorkQueue("mail", takes_commands=(), listens_to=())
    with pytest.raises(QueueMissing, match=world.queue("mail")):
        await client.check(replace(world.topology, queues=(*QUEUES, mail)))
    await client.delete(world.topology)
    with pytest.raises(QueueMissing, match=commands_exchange(world.topology.prefix)):
        await client.check(world.topology)
