"""The in-memory broker beyond the transport contract: crashing clients, outages, delivery order, publish hooks."""

import asyncio

import pytest

from broker.memory.transport import MemoryBroker, MemoryTransport
from broker.topology import RETRY_LEVELS_S, Address, Topology, WorkQueue, dead_queue, delay_queue
from broker.transport import Outgoing, Receipt, TransportUnavailable, Wire
from tests.support.broker.transports import Deliveries, message
from tests.support.wait import until

TOPOLOGY = Topology("m", (WorkQueue("stock", takes_commands=("stock.Do",), listens_to=("order.Placed",)),), delivery_limit=2)
STOCK = "m.stock"


def command(body: str) -> Outgoing:
    return Outgoing(Address("m.commands", "stock.Do", mandatory=True), message(body))


async def client_of(broker: MemoryBroker) -> MemoryTransport:
    client = MemoryTransport(broker, reconnect_timeout_s=0.05)
    await client.open()
    await client.declare(TOPOLOGY)
    return client


async def test_crashed_client_has_no_further_effect() -> None:
    broker = MemoryBroker()
    crashed, other = await client_of(broker), await client_of(broker)
    stock, redelivered = Deliveries(), Deliveries()
    await crashed.consume(STOCK, 10, stock)
    await other.publish([command("1"), command("2")])
    await stock.reach(2)
    crashed.crash()
    await crashed.ack(stock)
    assert await crashed.publish([command("after the crash")]) == [Receipt.UNKNOWN]
    await crashed.close()
    await other.consume(STOCK, 10, redelivered)
    await redelivered.reach(2)
    assert [(delivery.wire.body, delivery.redelivered) for delivery in redelivered] == [(b"1", True), (b"2", True)]
    assert len(stock) == 2
    with pytest.raises(TransportUnavailable):
        await crashed.open()


async def test_crash_before_the_confirm_leaves_the_publish_in_doubt() -> None:
    broker = MemoryBroker()
    crashed, other = await client_of(broker), await client_of(broker)
    publishing = asyncio.create_task(crashed.publish([command("1")]))
    await asyncio.sleep(0)
    crashed.crash()
    assert await publishing == [Receipt.UNKNOWN]
    assert await other.depth(STOCK) == 1


async def test_pending_delivery_of_a_crashed_client_goes_to_another() -> None:
    broker = MemoryBroker()
    crashed, other = await client_of(broker), await client_of(broker)
    stock, redelivered = Deliveries(), Deliveries()
    await crashed.consume(STOCK, 10, stock)
    broker.publish(command("1"))
    crashed.crash()
    await other.consume(STOCK, 10, redelivered)
    await redelivered.reach(1)
    assert not stock
    assert not redelivered[0].redelivered


async def test_restarted_broker_keeps_its_messages_and_restores_clients() -> None:
    broker = MemoryBroker()
    client = await client_of(broker)
    stock = Deliveries()
    await client.consume(STOCK, 10, stock)
    await client.publish([command("1")])
    await stock.reach(1)
    broker.stop()
    assert await client.publish([command("2")]) == [Receipt.UNKNOWN]
    with pytest.raises(TransportUnavailable):
        await MemoryTransport(broker).open()
    broker.start()
    await stock.reach(2)
    assert stock[1].redelivered


async def test_choose_selects_the_next_waiting_message() -> None:
    newest_first = MemoryBroker(choose=lambda waiting: waiting - 1)
    client = await client_of(newest_first)
    stock = Deliveries()
    await client.publish([command(str(number)) for number in range(4)])
    await client.consume(STOCK, 10, stock)
    await stock.reach(4)
    assert stock.bodies == [b"3", b"2", b"1", b"0"]


async def test_on_publish_sees_every_message() -> None:
    broker, seen = MemoryBroker(), list[Outgoing]()
    client = await client_of(broker)
    broker.on_publish.append(seen.append)
    sent = [command("1"), Outgoing(TOPOLOGY.retry_address("stock", 0), message("2"), 0.01)]
    await client.publish(sent)
    assert seen == sent


async def test_dead_letters_include_every_prefix() -> None:
    broker = MemoryBroker()
    client = await client_of(broker)
    other = Topology("n", TOPOLOGY.queues)
    await client.declare(other)
    await client.publish([Outgoing(topology.dead_address("stock"), message(topology.prefix)) for topology in (TOPOLOGY, other)])
    assert [wire.body for wire in broker.dead_letters("stock")] == [b"m", b"n"]
    assert broker.dead_letters("unknown") == []


async def test_unfinished_excludes_dead_letters() -> None:
    broker = MemoryBroker()
    client = await client_of(broker)
    stock = Deliveries()
    await client.consume(STOCK, 1, stock)
    retry = Outgoing(TOPOLOGY.retry_address("stock", 3), message("later"))
    await client.publish([command("1"), command("2"), retry, Outgoing(TOPOLOGY.dead_address("stock"), message("dead"))])
    await stock.reach(1)
    assert broker.unfinished() == 3  # one unsettled, one waiting, one delayed
    await client.ack(stock)
    await stock.reach(2)
    await client.cancel()
    assert broker.unfinished() == 2
    await client.purge(TOPOLOGY)
    assert broker.unfinished() == 1
    await client.ack(stock)
    assert broker.unfinished() == 0


async def test_live_queues_are_work_queues_and_delay_queues() -> None:
    broker = MemoryBroker()
    client = await client_of(broker)
    levels = [Outgoing(TOPOLOGY.retry_address("stock", level), message("later")) for level in range(len(RETRY_LEVELS_S))]
    await client.publish([command("1"), *levels, Outgoing(TOPOLOGY.dead_address("stock"), message("dead"))])
    depths = {name: await client.depth(name) for name in TOPOLOGY.live_queues()}
    assert depths == dict.fromkeys((STOCK, *(delay_queue("m", level) for level in range(len(RETRY_LEVELS_S)))), 1)
    assert set(TOPOLOGY.queue_names()) - set(depths) == {dead_queue(STOCK)}


async def test_consumer_resumes_when_its_queue_is_declared_again() -> None:
    broker = MemoryBroker()
    client, other = await client_of(broker), await client_of(broker)
    stock = Deliveries()
    await client.consume(STOCK, 10, stock)
    await other.delete(TOPOLOGY)
    await other.declare(TOPOLOGY)
    await other.publish([command("1")])
    await stock.reach(1)


async def test_delivery_happens_after_publish_returns() -> None:
    """Delivery is scheduled: a consumer never runs inside another client's publish."""
    broker = MemoryBroker()
    client = await client_of(broker)
    stock = Deliveries()
    await client.consume(STOCK, 10, stock)
    broker.publish(command("1"))
    assert not stock
    await until(lambda: bool(stock), "it is delivered a moment later")


async def test_wire_message_is_delivered_unchanged() -> None:
    broker = MemoryBroker()
    client = await client_of(broker)
    stock = Deliveries()
    await client.consume(STOCK, 10, stock)
    wire = Wire(b"\xff", headers={"odd": {1}})
    await client.publish([Outgoing(Address("m.commands", "stock.Do", mandatory=True), wire)])
    await stock.reach(1)
    assert stock[0].wire is wire
