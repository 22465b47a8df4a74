"""The transport contract: one suite, run in memory and on a real RabbitMQ."""

import asyncio
from dataclasses import replace

import pytest

from broker.topology import DELIVERY_LIMIT, Address, WorkQueue, dead_queue
from broker.transport import Outgoing, Receipt, Transport, TransportUnavailable, UnsafeTopology, Wire
from tests.support.broker.transports import QUEUES, Deliveries, World, consume, message
from tests.support.wait import until

CONFIRMED, UNROUTABLE, UNKNOWN = Receipt.CONFIRMED, Receipt.UNROUTABLE, Receipt.UNKNOWN


# --- routing --------------------------------------------------------------------------------------------------------------


async def test_command_reaches_only_its_recipient(world: World, client: Transport) -> None:
    stock, money = await consume(world, client, "stock"), await consume(world, client, "money")
    assert await client.publish([world.command("stock", "reserve"), world.command("money", "pay")]) == [CONFIRMED] * 2
    await stock.reach(1)
    await money.reach(1)
    assert (stock.bodies, money.bodies) == ([b"reserve"], [b"pay"])


async def test_event_reaches_each_subscribed_queue_once(world: World, client: Transport) -> None:
    stock, money = await consume(world, client, "stock"), await consume(world, client, "money")
    await client.publish([world.event("order.Placed", "1"), world.event("stock.Reserved", "2"), world.event("order.Placed", "3")])
    await money.reach(3)
    await stock.reach(2)
    assert (stock.bodies, money.bodies) == ([b"1", b"3"], [b"1", b"2", b"3"])


async def test_messages_of_one_queue_keep_their_order(world: World, client: Transport) -> None:
    stock = await consume(world, client, "stock")
    for start in range(0, 300, 60):
        await client.publish([world.command("stock", str(number)) for number in range(start, start + 60)])
    await stock.reach(300)
    assert stock.bodies == [str(number).encode() for number in range(300)]


async def test_properties_headers_and_body_arrive_unchanged(world: World, client: Transport) -> None:
    headers = {"text": "größer ☃", "whole": 2**62, "negative": -1, "real": 0.1, "list": ["a", 1, 2.5], "yes": True}
    full = Wire(
        body=bytes(range(256)) * 2000,  # 512,000 bytes: several frames
        message_id="m",
        correlation_id="c",
        type="stock.Reserve",
        timestamp=1_700_000_000,
        app_id="order",
        content_type="application/json",
        content_encoding="utf-8",
        headers=headers,
    )
    stock = await consume(world, client, "stock")
    address = world.command("stock").address
    await client.publish([Outgoing(address, full), Outgoing(address, Wire(b""))])
    await stock.reach(2)
    assert stock[0].wire == full
    assert stock[1].wire == Wire(b"")


async def test_headers_without_an_amqp_type_do_not_raise(world: World, client: Transport) -> None:
    stock = await consume(world, client, "stock")
    unusual = {
        "none": None,
        "table": {"deep": {"er": [None, {"x": b"\xff"}]}},
        "big": 2**70,
        "set": {1},
        "text": "\ud800",
        "k" * 300: 1,
    }
    assert await client.publish([world.command("stock", headers=unusual), world.command("stock", "next")]) == [CONFIRMED] * 2
    await stock.reach(2)
    assert stock[0].wire.headers["table"] == {"deep": {"er": [None, {"x": b"\xff"}]}}


# --- receipts -------------------------------------------------------------------------------------------------------------


async def test_mandatory_message_without_a_queue_is_unroutable(world: World, client: Transport) -> None:
    receipts = await client.publish(
        [world.event("unbound.Event", mandatory=True), world.event("unbound.Event"), world.command("unbound")]
    )
    assert receipts == [UNROUTABLE, CONFIRMED, UNROUTABLE]


async def test_one_unroutable_among_a_thousand_gets_its_own_receipt(world: World, client: Transport) -> None:
    batch = [world.command("stock", str(number)) for number in range(1000)]
    batch[500] = world.command("unbound")
    receipts = await client.publish(batch)
    assert [index for index, receipt in enumerate(receipts) if receipt is not CONFIRMED] == [500]
    assert receipts[500] is UNROUTABLE
    await world.depth("stock", 999)


async def test_duplicates_get_a_receipt_each_despite_one_message_id(world: World, client: Transport) -> None:
    good = world.command("stock", "duplicate", message_id="duplicate")
    lost = world.command("unbound", "duplicate", message_id="duplicate")
    assert await client.publish([good, lost, good, lost, good]) == [CONFIRMED, UNROUTABLE, CONFIRMED, UNROUTABLE, CONFIRMED]


async def test_message_without_an_id_is_reported_unroutable(world: World, client: Transport) -> None:
    without_id = Outgoing(world.command("unbound").address, Wire(b""))
    assert await client.publish([world.command("stock"), without_id]) == [CONFIRMED, UNROUTABLE]


async def test_empty_batch_has_no_receipts(client: Transport) -> None:
    assert await client.publish([]) == []


async def test_cancelled_publish_does_not_shift_later_receipts(world: World, client: Transport) -> None:
    first = [world.command("unbound" if number % 2 else "stock", "cancelled") for number in range(40)]
    publishing = asyncio.create_task(client.publish(first))
    await asyncio.sleep(0)  # it has started, and the broker has not answered
    publishing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await publishing
    second = [world.command("unbound" if number % 3 == 0 else "stock", str(number)) for number in range(40)]
    assert await client.publish(second) == [UNROUTABLE if number % 3 == 0 else CONFIRMED for number in range(40)]


async def test_two_clients_can_publish_concurrently(world: World, client: Transport) -> None:
    stock = await consume(world, client, "stock")
    other = await world.client()

    async def publish(client: Transport, name: str) -> list[Receipt]:
        batches = [[world.command("stock", f"{name}{batch}.{number}") for number in range(100)] for batch in range(5)]
        results = await asyncio.gather(*[client.publish(batch) for batch in batches])
        return [receipt for receipts in results for receipt in receipts]

    receipts_a, receipts_b = await asyncio.gather(publish(client, "a"), publish(other, "b"))
    assert receipts_a == receipts_b == [CONFIRMED] * 500
    await until(lambda: len(stock) == 1000, "all have arrived")
    assert len(set(stock.bodies)) == 1000


async def test_publish_to_a_missing_exchange_is_in_doubt(world: World, client: Transport) -> None:
    missing = Outgoing(Address(f"{world.topology.prefix}.missing", "stock", mandatory=True), message("lost"))
    assert await client.publish([missing]) == [UNKNOWN]
    await until(lambda: confirmed(client, world.command("stock", "after")), "publishing works again")


async def confirmed(client: Transport, outgoing: Outgoing) -> bool:
    return await client.publish([outgoing]) == [CONFIRMED]


# --- consuming ------------------------------------------------------------------------------------------------------------


async def test_unsettled_deliveries_are_limited_by_the_prefetch(world: World, client: Transport) -> None:
    await client.publish([world.command("stock", str(number)) for number in range(20)])
    stock = await consume(world, client, "stock", prefetch=5)
    await stock.reach(5)
    await world.depth("stock", 15)
    assert len(stock) == 5
    await client.ack(stock[:3])
    await until(lambda: len(stock) >= 8, "three more were handed over")
    await world.depth("stock", 12)
    assert stock.bodies == [str(number).encode() for number in range(8)]


async def test_ack_settles_all_earlier_deliveries(world: World, client: Transport) -> None:
    other = await world.client()
    stock = await consume(world, other, "stock")
    await client.publish([world.command("stock", str(number)) for number in range(10)])
    await stock.reach(10)
    await other.ack([stock[6]])
    await other.close()
    await world.depth("stock", 3)
    again = await consume(world, client, "stock")
    await again.reach(3)
    assert again.bodies == [b"7", b"8", b"9"]


async def test_unsettled_deliveries_of_a_closed_consumer_are_redelivered(world: World, client: Transport) -> None:
    other = await world.client()
    stock = await consume(world, other, "stock")
    await client.publish([world.command("stock", "1"), world.command("stock", "2")])
    await stock.reach(2)
    assert [delivery.redelivered for delivery in stock] == [False, False]
    await other.close()
    again = await consume(world, client, "stock")
    await again.reach(2)
    assert again.bodies == [b"1", b"2"]
    assert [delivery.redelivered for delivery in again] == [True, True]


async def test_message_requeued_too_often_is_dead_lettered(world: World, client: Transport) -> None:
    stock = await consume(world, client, "stock")
    await client.publish([world.command("stock", "poison", message_id="p")])
    for delivered in range(1, world.topology.delivery_limit + 2):
        await stock.reach(delivered)
        assert stock[-1].redelivered == (delivered > 1)
        await client.requeue([stock[-1]])
    await world.depth("stock.dead", 1)
    assert len(stock) == world.topology.delivery_limit + 1
    (dead,) = await client.get(dead_queue(world.queue("stock")), 10)
    assert (dead.body, dead.message_id) == (b"poison", "p")
    assert dead.headers["x-first-death-reason"] == "delivery_limit"


async def test_dead_letter_of_the_delivery_limit_survives_requeue_and_retry(world: World, client: Transport) -> None:
    """RabbitMQ drops a message as a routing cycle, judging by headers that a requeued dead letter would carry along."""
    stock = await consume(world, client, "stock")
    await client.publish([world.command("stock", "poison")])
    for delivered in range(1, world.topology.delivery_limit + 2):
        await stock.reach(delivered)
        await client.requeue([stock[-1]])
    await world.depth("stock.dead", 1)
    (dead,) = await client.get(dead_queue(world.queue("stock")), 1)
    assert await client.publish([Outgoing(world.topology.retry_address("stock", 0), dead)]) == [CONFIRMED]
    await stock.reach(world.topology.delivery_limit + 2)
    assert stock[-1].wire.body == b"poison"


async def test_requeueing_one_delivery_leaves_the_others_unsettled(world: World, client: Transport) -> None:
    stock = await consume(world, client, "stock")
    await client.publish([world.command("stock", str(number)) for number in range(3)])
    await stock.reach(3)
    await client.requeue([stock[1]])
    await stock.reach(4)
    assert stock.bodies[3] == b"1"
    await client.ack([stock[0], stock[2]])
    await client.ack([stock[3]])
    await client.close()
    await client.open()
    await world.depth("stock", 0)


async def test_single_active_queue_delivers_to_one_consumer(world: World, client: Transport) -> None:
    first = await world.client()
    one = await consume(world, first, "turns")
    two = await consume(world, await world.client(), "turns")
    await client.publish([world.command("turns", str(number)) for number in range(20)])
    await one.reach(20)
    assert not two
    await first.ack(one[:10])
    await first.close()
    await two.reach(10)
    assert two.bodies == [str(number).encode() for number in range(10, 20)]


async def test_shared_queue_delivers_to_both_consumers(world: World, client: Transport) -> None:
    one = await consume(world, client, "stock", prefetch=5)
    two = await consume(world, await world.client(), "stock", prefetch=5)
    await client.publish([world.command("stock", str(number)) for number in range(20)])
    await one.reach(5)
    await two.reach(5)
    assert not set(one.bodies) & set(two.bodies)


async def test_cancel_stops_deliveries_but_allows_settling(world: World, client: Transport) -> None:
    stock = await consume(world, client, "stock", prefetch=2)
    await client.publish([world.command("stock", str(number)) for number in range(4)])
    await stock.reach(2)
    await client.cancel()
    await client.ack(stock)
    await client.publish([world.command("stock", "4")])
    await world.depth("stock", 3)
    assert len(stock) == 2


async def test_consuming_a_missing_queue_names_it(world: World, client: Transport) -> None:
    with pytest.raises(UnsafeTopology, match=r"\.nowhere.*Declare the topology first"):
        await client.consume(world.queue("nowhere"), 1, Deliveries())
    assert await client.publish([world.command("stock")]) == [CONFIRMED]


# --- retries and dead letters ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("delay_s", "expected_s"), [(None, 0.1), (0.06, 0.06)])
async def test_retry_arrives_after_its_delay(world: World, client: Transport, delay_s: float | None, expected_s: float) -> None:
    stock = await consume(world, client, "stock")
    retry = Outgoing(world.topology.retry_address("stock", 0), message("again", headers={"attempt": 2}), delay_s)
    loop = asyncio.get_running_loop()
    sent_at = loop.time()
    assert await client.publish([retry]) == [CONFIRMED]
    await until(lambda: bool(stock), "the retry is back")
    # The broker counts whole milliseconds of its own clock.
    assert loop.time() - sent_at >= expected_s - 0.002
    assert stock[0].wire.body == b"again"
    assert stock[0].wire.headers["attempt"] == 2


async def test_get_reads_dead_letters_and_leaves_them(world: World, client: Transport) -> None:
    address = world.topology.dead_address("stock")
    await client.publish([Outgoing(address, message(str(number))) for number in range(3)])
    dead = dead_queue(world.queue("stock"))
    for _ in range(2):
        await world.depth("stock.dead", 3)
        assert [wire.body for wire in await client.get(dead, 2)] == [b"0", b"1"]
    await world.depth("stock.dead", 3)
    assert [wire.body for wire in await client.get(dead, 100)] == [b"0", b"1", b"2"]


async def test_get_from_an_empty_queue_returns_nothing(world: World, client: Transport) -> None:
    assert await client.get(world.queue("stock"), 5) == []


async def test_purge_empties_every_queue(world: World, client: Transport) -> None:
    topology = world.topology
    batch = [world.command("stock"), world.event("order.Placed")]
    batch += [Outgoing(topology.retry_address("stock", 3), message()), Outgoing(topology.dead_address("money"), message())]
    assert await client.publish(batch) == [CONFIRMED] * 4
    for worker, depth in (("stock", 2), ("money", 1), ("delay.3", 1), ("money.dead", 1)):
        await world.depth(worker, depth)
    await client.purge(topology)
    for name in topology.queue_names():
        assert await client.depth(name) == 0, name


# --- subscriptions --------------------------------------------------------------------------------------------------------


async def test_subscription_receives_events_that_match_its_patterns(world: World, client: Transport) -> None:
    subscriptions = {pattern: [pattern] for pattern in ("*.Placed", "order.#", "#", "order", "stock.Reserved", "*.*.*")}
    subscriptions["both"] = ["order.*", "*.Placed"]
    received: dict[str, list[bytes]] = {name: [] for name in subscriptions}
    for name, patterns in subscriptions.items():
        await client.subscribe(world.topology, patterns, lambda wire, name=name: received[name].append(wire.body))  # type: ignore[misc]
    names = ("order.Placed", "stock.Reserved", "order", "order.Placed.again")
    assert await client.publish([world.event(name, name) for name in names]) == [CONFIRMED] * 4
    expected = {
        "*.Placed": [b"order.Placed"],
        "order.#": [b"order.Placed", b"order", b"order.Placed.again"],
        "#": [name.encode() for name in names],
        "order": [b"order"],
        "stock.Reserved": [b"stock.Reserved"],
        "*.*.*": [b"order.Placed.again"],
        "both": [b"order.Placed"],  # two patterns match, one message
    }
    await until(lambda: sum(map(len, received.values())) >= sum(map(len, expected.values())), "all events have arrived")
    assert received == expected


async def test_subscription_takes_nothing_from_the_workers(world: World, client: Transport) -> None:
    received: list[Wire] = []
    await (await world.client()).subscribe(world.topology, ["#"], received.append)
    stock = await consume(world, client, "stock")
    await client.publish([world.event("order.Placed")])
    await stock.reach(1)
    await until(lambda: len(received) == 1, "the subscription received it too")


# --- outages --------------------------------------------------------------------------------------------------------------


async def test_publish_during_an_outage_is_in_doubt(world: World, client: Transport) -> None:
    assert await client.publish([world.command("stock", "before")]) == [CONFIRMED]
    world.cut()
    assert await client.publish([world.command("stock", "1"), world.command("unbound", "2")]) == [UNKNOWN, UNKNOWN]
    world.restore()
    await until(lambda: confirmed(client, world.command("stock", "after")), "publishing works again")
    assert await client.publish([world.command("stock"), world.command("unbound")]) == [CONFIRMED, UNROUTABLE]


async def test_consumer_resumes_after_a_lost_connection(world: World, client: Transport) -> None:
    stock = await consume(world, client, "stock")
    await client.publish([world.command("stock", "unsettled")])
    await stock.reach(1)
    world.cut()
    world.restore()
    await stock.reach(2)
    assert [(delivery.wire.body, delivery.redelivered) for delivery in stock] == [(b"unsettled", False), (b"unsettled", True)]
    await until(lambda: confirmed(client, world.command("stock", "new")), "publishing works again")
    await until(lambda: b"new" in stock.bodies, "the consumer receives new messages")


async def test_settling_deliveries_of_a_lost_connection_is_ignored(world: World, client: Transport) -> None:
    stock = await consume(world, client, "stock")
    await client.publish([world.command("stock", "1"), world.command("stock", "2")])
    await stock.reach(2)
    world.cut()
    await client.ack(stock[:1])
    await client.requeue(stock[1:2])
    world.restore()
    await stock.reach(4)
    await client.ack(stock[:2])  # deliveries of the old connection, whose tags must not settle the new ones
    await client.requeue(stock[2:])
    await stock.reach(6)
    assert stock.bodies == [b"1", b"2"] * 3


async def test_cancelled_consumer_does_not_resume_after_an_outage(world: World, client: Transport) -> None:
    stock, money = await consume(world, client, "stock"), Deliveries()
    await client.cancel()
    await client.consume(world.queue("money"), 10, money)
    world.cut()
    world.restore()
    event = world.event("order.Placed", "1")
    await until(lambda: confirmed(client, event), "publishing works again")
    await until(lambda: bool(money), "the other consumer is back")
    assert not stock


async def test_subscription_resumes_after_a_lost_connection(world: World, client: Transport) -> None:
    received: list[Wire] = []
    await client.subscribe(world.topology, ["order.*"], received.append)
    world.cut()
    world.restore()

    async def publish_and_look() -> bool:
        await client.publish([world.event("order.Placed")])
        return bool(received)

    await until(publish_and_look, "the subscription receives events again")


async def test_requests_during_an_outage_raise_transport_unavailable(world: World, client: Transport) -> None:
    world.cut()
    await until(lambda: confirmed_not(client, world.command("stock")), "the connection is lost")
    with pytest.raises(TransportUnavailable):
        await client.depth(world.queue("stock"))
    with pytest.raises(TransportUnavailable):
        await (await world.make()).open()


async def confirmed_not(client: Transport, outgoing: Outgoing) -> bool:
    return not await confirmed(client, outgoing)


# --- topology -------------------------------------------------------------------------------------------------------------


async def test_declaring_again_changes_nothing(world: World, client: Transport) -> None:
    await client.publish([world.command("stock")])
    await client.declare(world.topology)
    await (await world.client()).declare(world.topology)
    await world.depth("stock", 1)


async def test_declaring_a_new_consumer_adds_its_binding(world: World, client: Transport) -> None:
    assert await client.publish([world.event("money.Paid", mandatory=True)]) == [UNROUTABLE]
    queues = (*QUEUES, WorkQueue("mail", takes_commands=(), listens_to=("money.Paid",)))
    await client.declare(replace(world.topology, queues=queues))
    try:
        assert await client.publish([world.event("money.Paid", mandatory=True)]) == [CONFIRMED]
        await world.depth("mail", 1)
    finally:
        await client.delete(replace(world.topology, queues=queues))


@pytest.mark.parametrize("other", ["limit", "turns"])
async def test_different_declaration_is_refused_with_queue_and_remedy(world: World, client: Transport, other: str) -> None:
    different = (
        replace(world.topology, delivery_limit=DELIVERY_LIMIT)
        if other == "limit"
        else replace(world.topology, queues=(replace(QUEUES[0], single_active=True),))
    )
    with pytest.raises(UnsafeTopology, match=rf"{world.queue('stock')}.*delete it"):
        await client.declare(different)
    assert await client.publish([world.command("stock")]) == [CONFIRMED]


async def test_delete_removes_everything_and_is_idempotent(world: World, client: Transport) -> None:
    await client.publish([world.command("stock")])
    await client.delete(world.topology)
    await client.delete(world.topology)
    with pytest.raises(UnsafeTopology):
        await client.depth(world.queue("stock"))
    await client.declare(world.topology)
    assert await client.depth(world.queue("stock")) == 0
