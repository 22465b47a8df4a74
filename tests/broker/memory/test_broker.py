"""What the in-memory broker can do besides the transport contract: crash a client, stop, choose an order, show what flows."""

import asyncio

import pytest

from broker.memory.transport import MemoryBroker, MemoryTransport
from broker.topology import RETRY_LEVELS_S, Address, Topology, WorkQueue, dead_queue, delay_queue
from broker.transport import Outgoing, Receipt, TransportUnavailable, Wire
from tests.support.broker.transports import Heard, message
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


async def test_a_crashed_client_has_no_effect_any_more() -> None:
    broker = MemoryBroker()
    crashed, other = await client_of(broker), await client_of(broker)
    stock, again = Heard(), Heard()
    await crashed.consume(STOCK, 10, stock)
    await other.publish([command("1"), command("2")])
    await stock.reach(2)
    crashed.crash()
    await crashed.ack(stock)
    assert await crashed.publish([command("from the dead")]) == [Receipt.UNKNOWN]
    await crashed.close()
    await other.consume(STOCK, 10, again)
    await again.reach(2)
    assert [(delivery.wire.body, delivery.redelivered) for delivery in again] == [(b"1", True), (b"2", True)]
    assert len(stock) == 2
    with pytest.raises(TransportUnavailable):
        await crashed.open()


async def test_a_crash_between_publishing_and_the_confirm_leaves_the_message_and_the_doubt() -> None:
    broker = MemoryBroker()
    crashed, other = await client_of(broker), await client_of(broker)
    publishing = asyncio.create_task(crashed.publish([command("1")]))
    await asyncio.sleep(0)
    crashed.crash()
    assert await publishing == [Receipt.UNKNOWN]
    assert await other.depth(STOCK) == 1


async def test_what_was_about_to_be_delivered_to_a_crashed_client_goes_to_another() -> None:
    broker = MemoryBroker()
    crashed, other = await client_of(broker), await client_of(broker)
    stock, again = Heard(), Heard()
    await crashed.consume(STOCK, 10, stock)
    broker.publish(command("1"))
    crashed.crash()
    await other.consume(STOCK, 10, again)
    await again.reach(1)
    assert not stock
    assert not again[0].redelivered


async def test_a_stopped_broker_keeps_what_it_holds_and_brings_everybody_back() -> None:
    broker = MemoryBroker()
    client = await client_of(broker)
    stock = Heard()
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


async def test_choose_decides_which_waiting_message_goes_next() -> None:
    newest_first = MemoryBroker(choose=lambda waiting: waiting - 1)
    client = await client_of(newest_first)
    stock = Heard()
    await client.publish([command(str(number)) for number in range(4)])
    await client.consume(STOCK, 10, stock)
    await stock.reach(4)
    assert stock.bodies == [b"3", b"2", b"1", b"0"]


async def test_everything_published_can_be_watched_commands_and_retries_included() -> None:
    broker, seen = MemoryBroker(), list[Outgoing]()
    client = await client_of(broker)
    broker.on_publish.append(seen.append)
    sent = [command("1"), Outgoing(TOPOLOGY.retry_address("stock", 0), message("2"), 0.01)]
    await client.publish(sent)
    assert seen == sent


async def test_the_dead_letters_of_a_worker_are_shown_under_every_prefix() -> None:
    broker = MemoryBroker()
    client = await client_of(broker)
    twin = Topology("n", TOPOLOGY.queues)
    await client.declare(twin)
    await client.publish([Outgoing(topology.dead_address("stock"), message(topology.prefix)) for topology in (TOPOLOGY, twin)])
    assert [wire.body for wire in broker.dead_letters("stock")] == [b"m", b"n"]
    assert broker.dead_letters("nobody") == []


async def test_unfinished_counts_what_waits_is_delayed_or_unsettled_but_not_the_dead() -> None:
    broker = MemoryBroker()
    client = await client_of(broker)
    stock = Heard()
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


async def test_a_live_queue_is_one_whose_messages_somebody_still_has_to_handle() -> None:
    broker = MemoryBroker()
    client = await client_of(broker)
    levels = [Outgoing(TOPOLOGY.retry_address("stock", level), message("later")) for level in range(len(RETRY_LEVELS_S))]
    await client.publish([command("1"), *levels, Outgoing(TOPOLOGY.dead_address("stock"), message("dead"))])
    depths = {name: await client.depth(name) for name in TOPOLOGY.live_queues()}
    assert depths == dict.fromkeys((STOCK, *(delay_queue("m", level) for level in range(len(RETRY_LEVELS_S)))), 1)
    assert set(TOPOLOGY.queue_names()) - set(depths) == {dead_queue(STOCK)}


async def test_a_queue_that_was_deleted_and_declared_again_gets_its_consumer_back() -> None:
    broker = MemoryBroker()
    client, other = await client_of(broker), await client_of(broker)
    stock = Heard()
    await client.consume(STOCK, 10, stock)
    await other.delete(TOPOLOGY)
    await other.declare(TOPOLOGY)
    await other.publish([command("1")])
    await stock.reach(1)


async def test_nothing_is_delivered_before_the_publisher_goes_on() -> None:
    """Delivering is a step of its own: a handler never runs inside somebody else's publish."""
    broker = MemoryBroker()
    client = await client_of(broker)
    stock = Heard()
    await client.consume(STOCK, 10, stock)
    broker.publish(command("1"))
    assert not stock
    await until(lambda: bool(stock), "it is delivered a moment later")


async def test_an_unread_wire_is_handed_over_as_it_is() -> None:
    broker = MemoryBroker()
    client = await client_of(broker)
    stock = Heard()
    await client.consume(STOCK, 10, stock)
    wire = Wire(b"\xff", headers={"odd": {1}})
    await client.publish([Outgoing(Address("m.commands", "stock.Do", mandatory=True), wire)])
    await stock.reach(1)
    assert stock[0].wire is wire
