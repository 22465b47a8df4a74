"""What every transport does: one suite, run in memory and on a real RabbitMQ."""

import asyncio
from dataclasses import replace

import pytest

from broker.topology import DELIVERY_LIMIT, Address, WorkQueue, dead_queue
from broker.transport import Outgoing, Receipt, Transport, TransportUnavailable, UnsafeTopology, Wire
from tests.support.broker.transports import QUEUES, Heard, World, hear, message
from tests.support.wait import until

CONFIRMED, UNROUTABLE, UNKNOWN = Receipt.CONFIRMED, Receipt.UNROUTABLE, Receipt.UNKNOWN


# --- routing --------------------------------------------------------------------------------------------------------------


async def test_a_command_reaches_its_recipient_only(world: World, client: Transport) -> None:
    stock, money = await hear(world, client, "stock"), await hear(world, client, "money")
    assert await client.publish([world.command("stock", "reserve"), world.command("money", "pay")]) == [CONFIRMED] * 2
    await stock.reach(1)
    await money.reach(1)
    assert (stock.bodies, money.bodies) == ([b"reserve"], [b"pay"])


async def test_an_event_reaches_each_listener_once(world: World, client: Transport) -> None:
    stock, money = await hear(world, client, "stock"), await hear(world, client, "money")
    await client.publish([world.event("order.Placed", "1"), world.event("stock.Reserved", "2"), world.event("order.Placed", "3")])
    await money.reach(3)
    await stock.reach(2)
    assert (stock.bodies, money.bodies) == ([b"1", b"3"], [b"1", b"2", b"3"])


async def test_messages_of_one_queue_keep_their_order(world: World, client: Transport) -> None:
    stock = await hear(world, client, "stock")
    for start in range(0, 300, 60):
        await client.publish([world.command("stock", str(number)) for number in range(start, start + 60)])
    await stock.reach(300)
    assert stock.bodies == [str(number).encode() for number in range(300)]


async def test_properties_headers_and_body_arrive_as_they_were_sent(world: World, client: Transport) -> None:
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
    stock = await hear(world, client, "stock")
    address = world.command("stock").address
    await client.publish([Outgoing(address, full), Outgoing(address, Wire(b""))])
    await stock.reach(2)
    assert stock[0].wire == full
    assert stock[1].wire == Wire(b"")


async def test_headers_that_amqp_has_no_type_for_travel_as_text_or_not_at_all_but_never_raise(
    world: World, client: Transport
) -> None:
    stock = await hear(world, client, "stock")
    odd = {
        "none": None,
        "table": {"deep": {"er": [None, {"x": b"\xff"}]}},
        "big": 2**70,
        "set": {1},
        "text": "\ud800",
        "k" * 300: 1,
    }
    assert await client.publish([world.command("stock", headers=odd), world.command("stock", "next")]) == [CONFIRMED] * 2
    await stock.reach(2)
    assert stock[0].wire.headers["table"] == {"deep": {"er": [None, {"x": b"\xff"}]}}


# --- receipts -------------------------------------------------------------------------------------------------------------


async def test_a_message_nobody_reads_is_reported_unroutable_if_it_is_mandatory(world: World, client: Transport) -> None:
    receipts = await client.publish(
        [world.event("nobody.Listens", mandatory=True), world.event("nobody.Listens"), world.command("nobody")]
    )
    assert receipts == [UNROUTABLE, CONFIRMED, UNROUTABLE]


async def test_one_unroutable_among_a_thousand_gets_exactly_its_own_receipt(world: World, client: Transport) -> None:
    batch = [world.command("stock", str(number)) for number in range(1000)]
    batch[500] = world.command("nobody")
    receipts = await client.publish(batch)
    assert [index for index, receipt in enumerate(receipts) if receipt is not CONFIRMED] == [500]
    assert receipts[500] is UNROUTABLE
    await world.depth("stock", 999)


async def test_twins_get_a_receipt_each_although_they_share_their_message_id(world: World, client: Transport) -> None:
    good = world.command("stock", "twin", message_id="twin")
    lost = world.command("nobody", "twin", message_id="twin")
    assert await client.publish([good, lost, good, lost, good]) == [CONFIRMED, UNROUTABLE, CONFIRMED, UNROUTABLE, CONFIRMED]


async def test_a_message_without_an_id_is_reported_unroutable_too(world: World, client: Transport) -> None:
    nameless = Outgoing(world.command("nobody").address, Wire(b""))
    assert await client.publish([world.command("stock"), nameless]) == [CONFIRMED, UNROUTABLE]


async def test_an_empty_batch_has_no_receipts(client: Transport) -> None:
    assert await client.publish([]) == []


async def test_a_cancelled_publish_does_not_shift_the_receipts_of_the_next(world: World, client: Transport) -> None:
    first = [world.command("nobody" if number % 2 else "stock", "cancelled") for number in range(40)]
    publishing = asyncio.create_task(client.publish(first))
    await asyncio.sleep(0)  # it has started, and the broker has not answered
    publishing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await publishing
    second = [world.command("nobody" if number % 3 == 0 else "stock", str(number)) for number in range(40)]
    assert await client.publish(second) == [UNROUTABLE if number % 3 == 0 else CONFIRMED for number in range(40)]


async def test_two_clients_publish_at_the_same_time_without_disturbing_each_other(world: World, client: Transport) -> None:
    stock = await hear(world, client, "stock")
    other = await world.client()

    async def publish(who: Transport, name: str) -> list[Receipt]:
        batches = [[world.command("stock", f"{name}{batch}.{number}") for number in range(100)] for batch in range(5)]
        results = await asyncio.gather(*[who.publish(batch) for batch in batches])
        return [receipt for receipts in results for receipt in receipts]

    receipts_a, receipts_b = await asyncio.gather(publish(client, "a"), publish(other, "b"))
    assert receipts_a == receipts_b == [CONFIRMED] * 500
    await until(lambda: len(stock) == 1000, "all have arrived")
    assert len(set(stock.bodies)) == 1000


async def test_publishing_to_an_exchange_that_is_not_there_is_in_doubt_and_harms_nothing_else(
    world: World, client: Transport
) -> None:
    missing = Outgoing(Address(f"{world.topology.prefix}.missing", "stock", mandatory=True), message("lost"))
    assert await client.publish([missing]) == [UNKNOWN]
    await until(lambda: confirmed(client, world.command("stock", "after")), "publishing works again")


async def confirmed(client: Transport, outgoing: Outgoing) -> bool:
    return await client.publish([outgoing]) == [CONFIRMED]


# --- consuming ------------------------------------------------------------------------------------------------------------


async def test_no_more_than_the_prefetch_is_handed_over_unsettled(world: World, client: Transport) -> None:
    await client.publish([world.command("stock", str(number)) for number in range(20)])
    stock = await hear(world, client, "stock", prefetch=5)
    await stock.reach(5)
    await world.depth("stock", 15)
    assert len(stock) == 5
    await client.ack(stock[:3])
    await until(lambda: len(stock) >= 8, "three more were handed over")
    await world.depth("stock", 12)
    assert stock.bodies == [str(number).encode() for number in range(8)]


async def test_acknowledging_settles_everything_handed_over_before(world: World, client: Transport) -> None:
    other = await world.client()
    stock = await hear(world, other, "stock")
    await client.publish([world.command("stock", str(number)) for number in range(10)])
    await stock.reach(10)
    await other.ack([stock[6]])
    await other.close()
    await world.depth("stock", 3)
    again = await hear(world, client, "stock")
    await again.reach(3)
    assert again.bodies == [b"7", b"8", b"9"]


async def test_what_was_not_settled_comes_again_flagged_when_its_consumer_closes(world: World, client: Transport) -> None:
    other = await world.client()
    stock = await hear(world, other, "stock")
    await client.publish([world.command("stock", "1"), world.command("stock", "2")])
    await stock.reach(2)
    assert [delivery.redelivered for delivery in stock] == [False, False]
    await other.close()
    again = await hear(world, client, "stock")
    await again.reach(2)
    assert again.bodies == [b"1", b"2"]
    assert [delivery.redelivered for delivery in again] == [True, True]


async def test_what_is_requeued_too_often_becomes_a_dead_letter(world: World, client: Transport) -> None:
    stock = await hear(world, client, "stock")
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


async def test_a_dead_letter_of_the_delivery_limit_survives_a_redrive_and_a_retry(world: World, client: Transport) -> None:
    """RabbitMQ drops a message that seems to go round in a circle, judging by headers that a redrive carries along."""
    stock = await hear(world, client, "stock")
    await client.publish([world.command("stock", "poison")])
    for delivered in range(1, world.topology.delivery_limit + 2):
        await stock.reach(delivered)
        await client.requeue([stock[-1]])
    await world.depth("stock.dead", 1)
    (dead,) = await client.get(dead_queue(world.queue("stock")), 1)
    assert await client.publish([Outgoing(world.topology.retry_address("stock", 0), dead)]) == [CONFIRMED]
    await stock.reach(world.topology.delivery_limit + 2)
    assert stock[-1].wire.body == b"poison"


async def test_requeueing_one_leaves_the_others_unsettled(world: World, client: Transport) -> None:
    stock = await hear(world, client, "stock")
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


async def test_only_one_consumer_of_a_single_active_queue_gets_deliveries(world: World, client: Transport) -> None:
    first = await world.client()
    one = await hear(world, first, "turns")
    two = await hear(world, await world.client(), "turns")
    await client.publish([world.command("turns", str(number)) for number in range(20)])
    await one.reach(20)
    assert not two
    await first.ack(one[:10])
    await first.close()
    await two.reach(10)
    assert two.bodies == [str(number).encode() for number in range(10, 20)]


async def test_two_consumers_of_a_shared_queue_both_get_deliveries(world: World, client: Transport) -> None:
    one = await hear(world, client, "stock", prefetch=5)
    two = await hear(world, await world.client(), "stock", prefetch=5)
    await client.publish([world.command("stock", str(number)) for number in range(20)])
    await one.reach(5)
    await two.reach(5)
    assert not set(one.bodies) & set(two.bodies)


async def test_after_cancel_nothing_comes_but_what_came_may_be_settled(world: World, client: Transport) -> None:
    stock = await hear(world, client, "stock", prefetch=2)
    await client.publish([world.command("stock", str(number)) for number in range(4)])
    await stock.reach(2)
    await client.cancel()
    await client.ack(stock)
    await client.publish([world.command("stock", "4")])
    await world.depth("stock", 3)
    assert len(stock) == 2


async def test_consuming_a_queue_that_is_not_there_names_it(world: World, client: Transport) -> None:
    with pytest.raises(UnsafeTopology, match=r"\.nowhere.*Declare the topology first"):
        await client.consume(world.queue("nowhere"), 1, Heard())
    assert await client.publish([world.command("stock")]) == [CONFIRMED]


# --- aside: retries and dead letters --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("delay_s", "expected_s"), [(None, 0.1), (0.06, 0.06)])
async def test_a_retry_comes_back_after_its_delay_and_not_before(
    world: World, client: Transport, delay_s: float | None, expected_s: float
) -> None:
    stock = await hear(world, client, "stock")
    retry = Outgoing(world.topology.retry_address("stock", 0), message("again", headers={"attempt": 2}), delay_s)
    loop = asyncio.get_running_loop()
    sent_at = loop.time()
    assert await client.publish([retry]) == [CONFIRMED]
    await until(lambda: bool(stock), "the retry is back")
    # The broker counts whole milliseconds of its own clock.
    assert loop.time() - sent_at >= expected_s - 0.002
    assert stock[0].wire.body == b"again"
    assert stock[0].wire.headers["attempt"] == 2


async def test_the_dead_letter_address_leads_to_the_dead_letters_and_looking_leaves_them_there(
    world: World, client: Transport
) -> None:
    address = world.topology.dead_address("stock")
    await client.publish([Outgoing(address, message(str(number))) for number in range(3)])
    dead = dead_queue(world.queue("stock"))
    for _ in range(2):
        await world.depth("stock.dead", 3)
        assert [wire.body for wire in await client.get(dead, 2)] == [b"0", b"1"]
    await world.depth("stock.dead", 3)
    assert [wire.body for wire in await client.get(dead, 100)] == [b"0", b"1", b"2"]


async def test_looking_into_an_empty_queue_finds_nothing(world: World, client: Transport) -> None:
    assert await client.get(world.queue("stock"), 5) == []


async def test_purging_empties_every_queue(world: World, client: Transport) -> None:
    topology = world.topology
    batch = [world.command("stock"), world.event("order.Placed")]
    batch += [Outgoing(topology.retry_address("stock", 3), message()), Outgoing(topology.dead_address("money"), message())]
    assert await client.publish(batch) == [CONFIRMED] * 4
    for worker, depth in (("stock", 2), ("money", 1), ("later.3", 1), ("money.dead", 1)):
        await world.depth(worker, depth)
    await client.purge(topology)
    for name in topology.queue_names():
        assert await client.depth(name) == 0, name


# --- subscriptions --------------------------------------------------------------------------------------------------------


async def test_a_subscription_hears_the_events_that_match_its_patterns(world: World, client: Transport) -> None:
    subscriptions = {pattern: [pattern] for pattern in ("*.Placed", "order.#", "#", "order", "stock.Reserved", "*.*.*")}
    subscriptions["both"] = ["order.*", "*.Placed"]
    heard: dict[str, list[bytes]] = {name: [] for name in subscriptions}
    for name, patterns in subscriptions.items():
        await client.subscribe(world.topology, patterns, lambda wire, name=name: heard[name].append(wire.body))  # type: ignore[misc]
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
    await until(lambda: sum(map(len, heard.values())) >= sum(map(len, expected.values())), "all have heard what they should")
    assert heard == expected


async def test_a_subscription_takes_nothing_from_the_workers(world: World, client: Transport) -> None:
    heard: list[Wire] = []
    await (await world.client()).subscribe(world.topology, ["#"], heard.append)
    stock = await hear(world, client, "stock")
    await client.publish([world.event("order.Placed")])
    await stock.reach(1)
    await until(lambda: len(heard) == 1, "the subscription heard it too")


# --- outages --------------------------------------------------------------------------------------------------------------


async def test_publishing_while_the_connection_is_cut_is_in_doubt_and_later_works_again(world: World, client: Transport) -> None:
    assert await client.publish([world.command("stock", "before")]) == [CONFIRMED]
    world.cut()
    assert await client.publish([world.command("stock", "1"), world.command("nobody", "2")]) == [UNKNOWN, UNKNOWN]
    world.restore()
    await until(lambda: confirmed(client, world.command("stock", "after")), "publishing works again")
    assert await client.publish([world.command("stock"), world.command("nobody")]) == [CONFIRMED, UNROUTABLE]


async def test_a_consumer_comes_back_after_its_connection_was_lost(world: World, client: Transport) -> None:
    stock = await hear(world, client, "stock")
    await client.publish([world.command("stock", "unsettled")])
    await stock.reach(1)
    world.cut()
    world.restore()
    await stock.reach(2)
    assert [(delivery.wire.body, delivery.redelivered) for delivery in stock] == [(b"unsettled", False), (b"unsettled", True)]
    await until(lambda: confirmed(client, world.command("stock", "new")), "publishing works again")
    await until(lambda: b"new" in stock.bodies, "the consumer hears what is new")


async def test_settling_what_a_lost_connection_delivered_is_ignored(world: World, client: Transport) -> None:
    stock = await hear(world, client, "stock")
    await client.publish([world.command("stock", "1"), world.command("stock", "2")])
    await stock.reach(2)
    world.cut()
    await client.ack(stock[:1])
    await client.requeue(stock[1:2])
    world.restore()
    await stock.reach(4)
    await client.ack(stock[:2])  # the old ones again, now that there is a new connection: not the new ones' tags
    await client.requeue(stock[2:])
    await stock.reach(6)
    assert stock.bodies == [b"1", b"2"] * 3


async def test_a_consumer_that_was_cancelled_stays_away_after_an_outage(world: World, client: Transport) -> None:
    stock, money = await hear(world, client, "stock"), Heard()
    await client.cancel()
    await client.consume(world.queue("money"), 10, money)
    world.cut()
    world.restore()
    event = world.event("order.Placed", "1")
    await until(lambda: confirmed(client, event), "publishing works again")
    await until(lambda: bool(money), "the other consumer is back")
    assert not stock


async def test_a_subscription_comes_back_after_its_connection_was_lost(world: World, client: Transport) -> None:
    heard: list[Wire] = []
    await client.subscribe(world.topology, ["order.*"], heard.append)
    world.cut()
    world.restore()

    async def publish_and_look() -> bool:
        await client.publish([world.event("order.Placed")])
        return bool(heard)

    await until(publish_and_look, "the subscription hears again")


async def test_asking_something_of_a_broker_that_is_away_says_that_it_is(world: World, client: Transport) -> None:
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


async def test_declaring_a_new_listener_adds_its_binding(world: World, client: Transport) -> None:
    assert await client.publish([world.event("money.Paid", mandatory=True)]) == [UNROUTABLE]
    queues = (*QUEUES, WorkQueue("mail", takes_commands=(), listens_to=("money.Paid",)))
    await client.declare(replace(world.topology, queues=queues))
    try:
        assert await client.publish([world.event("money.Paid", mandatory=True)]) == [CONFIRMED]
        await world.depth("mail", 1)
    finally:
        await client.delete(replace(world.topology, queues=queues))


@pytest.mark.parametrize("other", ["limit", "turns"])
async def test_declaring_a_queue_differently_is_refused_and_says_which_and_what_to_do(
    world: World, client: Transport, other: str
) -> None:
    different = (
        replace(world.topology, delivery_limit=DELIVERY_LIMIT)
        if other == "limit"
        else replace(world.topology, queues=(replace(QUEUES[0], single_active=True),))
    )
    with pytest.raises(UnsafeTopology, match=rf"{world.queue('stock')}.*delete it"):
        await client.declare(different)
    assert await client.publish([world.command("stock")]) == [CONFIRMED]


async def test_deleting_removes_everything_and_may_be_done_twice(world: World, client: Transport) -> None:
    await client.publish([world.command("stock")])
    await client.delete(world.topology)
    await client.delete(world.topology)
    with pytest.raises(UnsafeTopology):
        await client.depth(world.queue("stock"))
    await client.declare(world.topology)
    assert await client.depth(world.queue("stock")) == 0
