"""The traps of RabbitMQ and aio-pika, one test or more each: what bites whoever uses them naively, and that we are not bitten.

Real broker only. Outages are made by a proxy in between: the broker itself is left alone.
"""

import asyncio
import contextlib
import gc
import importlib.metadata
from collections.abc import AsyncIterator

import aio_pika
import pytest
from yarl import URL

from broker import declarations
from broker.amqp_properties import DROPPED_HEADER, UNREADABLE_HEADER
from broker.rabbitmq.connection import broker_request
from broker.rabbitmq.transport import RabbitTransport
from broker.topology import Address, Topology, WorkQueue, commands_exchange, dead_queue, queue_of
from broker.transport import Delivery, Outgoing, Receipt, TransportUnavailable, UnsafeTopology, Wire
from tests.support.broker.alarm import block, unblock
from tests.support.broker.raw_messages import GARBAGE, publish_raw
from tests.support.broker.transports import Heard, fresh, message
from tests.support.broker.users import lent
from tests.support.network.tcp_proxy import Proxy
from tests.support.wait import until

pytestmark = pytest.mark.real

CONFIRMED, UNKNOWN = Receipt.CONFIRMED, Receipt.UNKNOWN


class Site:
    """A topology with one worker, `stock`, declared on the real broker, and a proxy that clients go through."""

    def __init__(self, url: str, proxy: Proxy) -> None:
        self.url = url
        self.proxy = proxy
        self.topology = fresh([WorkQueue("stock", takes_commands=("stock.Do",), listens_to=())])
        self.stock = queue_of(self.topology.prefix, "stock")
        self.direct = RabbitTransport(url, "trap test")

    @property
    def proxied(self) -> str:
        return str(URL(self.url).with_host("127.0.0.1").with_port(self.proxy.port))

    def client(self, **options: float) -> RabbitTransport:
        """A client behind the proxy, not open yet. Its connections arrive there in the order: publishing, consuming."""
        return RabbitTransport(self.proxied, "trap test", reconnect_timeout_s=0.2, **options)  # type: ignore[arg-type]

    def command(self, body: bytes | str = b"", worker: str = "stock") -> Outgoing:
        return Outgoing(Address(commands_exchange(self.topology.prefix), f"{worker}.Do", mandatory=True), message(body))

    async def depth(self, queue: str, expected: int) -> None:
        async def reached() -> bool:
            return await self.direct.depth(queue) == expected

        await until(reached, f"{expected} messages wait in {queue}")


@pytest.fixture
async def site(rabbit_url: str) -> AsyncIterator[Site]:
    target = URL(rabbit_url)
    async with Proxy(target.host or "", target.port or 5672) as proxy:
        made = Site(rabbit_url, proxy)
        await made.direct.open()
        await made.direct.declare(made.topology)
        yield made
        await made.direct.delete(made.topology)
        await made.direct.close()


@pytest.fixture
async def client(site: Site) -> AsyncIterator[RabbitTransport]:
    made = site.client(confirm_timeout_s=0.3)
    await made.open()
    yield made
    site.proxy.thaw()
    await made.close()


@pytest.fixture
async def patient(site: Site) -> AsyncIterator[RabbitTransport]:
    """As `client`, for where no confirm is meant to be late: on a busy machine it may well be."""
    made = site.client()
    await made.open()
    yield made
    await made.close()


# --- 1 and 2: poison ------------------------------------------------------------------------------------------------------


async def test_1_a_message_that_kills_its_consumer_becomes_a_dead_letter(site: Site, client: RabbitTransport) -> None:
    stock = Heard()
    await client.consume(site.stock, 1, stock)
    await site.direct.publish([site.command("poison")])
    for delivered in range(1, site.topology.delivery_limit + 2):
        await stock.reach(delivered)
        site.proxy.reset()
    await site.depth(dead_queue(site.stock), 1)
    assert len(stock) == site.topology.delivery_limit + 1


def test_1_every_work_queue_has_an_explicit_limit_and_a_place_for_dead_letters() -> None:
    topology = fresh()
    specs = {spec.name: spec.arguments for spec in declarations.queues(topology)}
    for work in topology.queues:
        arguments = specs[queue_of(topology.prefix, work.worker)]
        assert arguments["x-delivery-limit"] == topology.delivery_limit
        assert arguments["x-dead-letter-routing-key"] in specs
        assert arguments["x-dead-letter-strategy"] == "at-least-once"
    assert all("x-delivery-limit" in arguments for name, arguments in specs.items() if name.endswith(".dead"))


async def test_2_the_delivery_limit_punishes_the_neighbours_of_a_poison_message(site: Site, client: RabbitTransport) -> None:
    """Not ours to prevent: it is why a worker handles one message at a time after a crash."""
    stock = Heard()
    await client.consume(site.stock, 10, stock)
    await site.direct.publish([site.command(str(number)) for number in range(10)])
    for delivered in range(1, site.topology.delivery_limit + 2):
        await stock.reach(10 * delivered)
        site.proxy.reset()
    await site.depth(dead_queue(site.stock), 10)


# --- 3 to 6: publishing ---------------------------------------------------------------------------------------------------


async def test_3_a_frozen_broker_leaves_a_publish_in_doubt_instead_of_cancelling_the_caller(
    site: Site, client: RabbitTransport
) -> None:
    site.proxy.freeze()
    assert await client.publish([site.command()]) == [UNKNOWN]


async def test_3_a_request_whose_connection_dies_says_so_instead_of_cancelling_the_caller(
    site: Site, client: RabbitTransport
) -> None:
    site.proxy.freeze()
    asked = asyncio.create_task(client.depth(site.stock))
    with contextlib.suppress(TimeoutError):  # it is under way, and gets no answer
        await asyncio.wait_for(asyncio.shield(asked), 0.1)
    assert not asked.done()
    site.proxy.cut()
    with pytest.raises(TransportUnavailable, match="the connection was lost"):
        await asked


async def test_3_a_cancellation_that_nobody_asked_for_is_a_lost_connection() -> None:
    future = asyncio.get_running_loop().create_future()
    future.cancel()
    with pytest.raises(TransportUnavailable, match="asking: the connection was lost"):
        async with broker_request("asking"):
            await future


async def test_3_a_cancellation_that_somebody_asked_for_stays_one() -> None:
    async def ask() -> None:
        async with broker_request("asking"):
            await asyncio.get_running_loop().create_future()

    task = asyncio.create_task(ask())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("instead", [None, ConnectionError("closed")])
async def test_3_a_cancellation_that_aiormq_swallows_is_heeded_all_the_same(instead: Exception | None) -> None:
    """It does when the end of a channel that is being closed comes at the same time: a third of the time that `depth` takes."""

    async def ask() -> None:
        async with broker_request("asking"):
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.get_running_loop().create_future()
            if instead:
                raise instead

    task = asyncio.create_task(ask())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_4_a_publish_in_doubt_may_have_succeeded_and_its_late_confirm_goes_to_nobody_else(
    site: Site, client: RabbitTransport
) -> None:
    stock = Heard()
    await site.direct.consume(site.stock, 10, stock)
    site.proxy.freeze()
    assert await client.publish([site.command("in doubt")]) == [UNKNOWN]
    site.proxy.thaw()
    batch = [site.command("next"), site.command(worker="nobody"), site.command("last")]
    assert await client.publish(batch) == [CONFIRMED, Receipt.UNROUTABLE, CONFIRMED]
    await stock.reach(3)
    assert stock.bodies == [b"in doubt", b"next", b"last"]


async def test_5_during_an_outage_a_publish_waits_a_little_instead_of_failing_at_once(
    site: Site, client: RabbitTransport
) -> None:
    site.proxy.cut()
    loop = asyncio.get_running_loop()
    await client.publish([site.command()])  # notices the loss
    started_at = loop.time()
    assert await client.publish([site.command()]) == [UNKNOWN]
    assert loop.time() - started_at >= 0.19


async def test_5_a_publish_that_meets_the_end_of_an_outage_succeeds(site: Site) -> None:
    client = RabbitTransport(site.proxied, "trap test", reconnect_timeout_s=10)
    await client.open()
    site.proxy.cut()
    publishing = asyncio.create_task(client.publish([site.command()]))
    await asyncio.wait([publishing], timeout=0.1)
    site.proxy.restore()
    # The first may have been written into the dying connection; the second waits for the new one.
    assert (await publishing) in ([CONFIRMED], [UNKNOWN])
    assert await client.publish([site.command()]) == [CONFIRMED]
    await client.close()


async def test_6_aio_pika_reports_success_for_a_message_that_reached_nobody(site: Site) -> None:
    """The trap itself: why receipts are read from the returns here, and the topology says what must have a reader."""
    async with await aio_pika.connect(site.url) as connection, connection.channel() as channel:
        exchange = await channel.get_exchange(commands_exchange(site.topology.prefix), ensure=False)
        await exchange.publish(aio_pika.Message(b""), "nobody", mandatory=True)  # does not raise
    assert await site.direct.publish([site.command(worker="nobody")]) == [Receipt.UNROUTABLE]


async def test_6_a_sink_that_raises_does_not_leave_its_delivery_unsettled_for_ever(site: Site, client: RabbitTransport) -> None:
    stock = Heard()

    def sink(delivery: Delivery) -> None:
        stock(delivery)
        if len(stock) == 1:
            raise LookupError("a bug in the sink")

    errors: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))
    await client.consume(site.stock, 1, sink)
    await site.direct.publish([site.command("1"), site.command("2")])
    await stock.reach(2)
    assert stock[1].redelivered
    await client.ack([stock[1]])
    await stock.reach(3)
    assert stock.bodies == [b"1", b"1", b"2"]
    assert [type(context["exception"]) for context in errors] == [LookupError]  # loudly


# --- 7 and 8: connections and channels ------------------------------------------------------------------------------------


async def test_7_acknowledgements_go_on_while_the_publishing_connection_is_blocked(site: Site, client: RabbitTransport) -> None:
    stock = Heard()
    await client.consume(site.stock, 1, stock)
    assert site.proxy.accepted == 2
    site.proxy.freeze(only=0)
    assert await client.publish([site.command("blocked")]) == [UNKNOWN]
    await site.direct.publish([site.command(str(number)) for number in range(3)])
    for delivered in range(1, 4):
        await stock.reach(delivered)
        await client.ack(stock[-1:])
    await site.depth(site.stock, 0)


async def test_7_a_blocked_connection_is_not_written_full_however_often_it_is_tried(site: Site) -> None:
    client = site.client(confirm_timeout_s=0.01)
    await client.open()
    site.proxy.freeze(only=0)
    batch = [site.command(b"x" * 50_000)] * 20
    for _ in range(10):
        assert await client.publish(batch) == [UNKNOWN] * 20
    session = client._publish_connection.session
    assert session is not None
    assert session.writer.transport.get_write_buffer_size() < 2 * 20 * 50_000
    site.proxy.thaw()
    await client.close()


async def test_7_a_publisher_that_an_alarm_blocks_is_in_doubt_and_goes_on_over_the_same_connection(
    site: Site, client: RabbitTransport
) -> None:
    """The alarm is the proxy's: it says what RabbitMQ says, and reads nothing more. The shared broker is not to be made short."""
    stock = Heard()
    await client.consume(site.stock, 10, stock)
    block(site.proxy, 0)
    assert await client.publish([site.command("blocked")]) == [UNKNOWN]
    await site.direct.publish([site.command("others go on")])
    await stock.reach(1)
    await client.ack(stock)
    unblock(site.proxy, 0)
    assert await client.publish([site.command("after")]) == [CONFIRMED]
    await stock.reach(3)
    assert stock.bodies == [b"others go on", b"blocked", b"after"]
    assert site.proxy.accepted == 2, "a connection was given up"


@pytest.mark.parametrize("connection", [0, 1], ids=["publishing", "consuming"])
async def test_7_a_half_open_connection_is_noticed_by_its_silence_and_made_anew(site: Site, connection: int) -> None:
    """Nobody said goodbye: only the heartbeats are missing. aio-pika waits for three and a grace period."""
    client, stock = site.client(heartbeat_s=1), Heard()
    await client.open()
    await client.consume(site.stock, 10, stock)
    site.proxy.freeze(only=connection)
    await until(lambda: site.proxy.accepted == 3, "a new connection is made", 20.0)
    await until(lambda: confirmed(client, site.command("after")), "publishing works")
    await stock.reach(1)
    site.proxy.thaw()
    await client.close()


async def confirmed(client: RabbitTransport, outgoing: Outgoing) -> bool:
    return await client.publish([outgoing]) == [CONFIRMED]


async def test_8_a_channel_closed_by_the_broker_brings_the_consumer_back(site: Site, client: RabbitTransport) -> None:
    """The broker closes a channel that keeps a delivery unsettled too long. Here the reason is a tag that it never gave out."""
    stock = Heard()
    await client.consume(site.stock, 10, stock)
    await site.direct.publish([site.command("1")])
    await stock.reach(1)
    channel = stock[0].channel
    assert channel is not None
    await client.ack([Delivery(Wire(b""), redelivered=False, tag=999, channel=channel)])
    await stock.reach(2)
    assert stock[1].redelivered


async def test_8_a_consumer_whose_queue_was_deleted_comes_back_with_the_queue(site: Site, client: RabbitTransport) -> None:
    """But if that is at once, RabbitMQ 3.10 may forget to tell the consumer: so purge rather than delete and declare."""
    stock = Heard()
    await client.consume(site.stock, 10, stock)
    session = client._consume_connection.session
    assert session is not None
    await site.direct.delete(site.topology)
    await until(session.ended.done, "the consumer was told")
    await site.direct.declare(site.topology)
    await site.direct.publish([site.command("1")])
    await stock.reach(1)


# --- 9: delays ------------------------------------------------------------------------------------------------------------


async def test_9_a_short_wait_does_not_stand_behind_a_long_one(site: Site, client: RabbitTransport) -> None:
    stock = Heard()
    await client.consume(site.stock, 10, stock)
    long, short = (Outgoing(site.topology.retry_address("stock", level), message(str(level))) for level in (3, 0))
    assert await client.publish([long, short]) == [CONFIRMED] * 2
    await stock.reach(1)
    assert stock.bodies == [b"0"]


async def test_9_a_delay_beyond_the_level_of_its_queue_is_cut_to_it(site: Site, client: RabbitTransport) -> None:
    stock = Heard()
    await client.consume(site.stock, 10, stock)
    address = site.topology.retry_address("stock", 0)
    await client.publish([Outgoing(address, message("1"), delay_s=3600), Outgoing(address, message("2"), delay_s=0.0)])
    await stock.reach(2)


# --- 10: permissions ------------------------------------------------------------------------------------------------------


async def test_10_a_worker_that_may_declare_nothing_can_consume_and_comes_back(site: Site) -> None:
    with lent(site.url, read=f"^{site.stock}$") as url:
        proxied = URL(url).with_host("127.0.0.1").with_port(site.proxy.port)
        worker, stock = RabbitTransport(str(proxied), "trap test"), Heard()
        await worker.open()
        await worker.consume(site.stock, 10, stock)
        await site.direct.publish([site.command("1")])
        await stock.reach(1)
        site.proxy.reset()
        await stock.reach(2)
        with pytest.raises(UnsafeTopology, match="no permission"):
            await worker.declare(Topology(f"{site.topology.prefix}x", ()))
        await worker.close()


# --- 11: what aio-pika holds weakly ---------------------------------------------------------------------------------------


async def test_11_a_consumer_survives_garbage_collection_and_then_a_lost_connection(site: Site, client: RabbitTransport) -> None:
    stock, heard = Heard(), list[Wire]()
    await client.consume(site.stock, 10, stock)
    await client.subscribe(site.topology, ["#"], heard.append)
    gc.collect()
    await site.direct.publish([site.command("1")])
    await stock.reach(1)
    site.proxy.reset()
    await stock.reach(2)
    gc.collect()
    await site.direct.publish([site.command("2")])
    await stock.reach(3)


def test_11_aio_pika_has_the_version_that_this_was_tried_with() -> None:
    assert importlib.metadata.version("aio-pika").startswith("10.")
    assert importlib.metadata.version("aiormq").startswith("7.")


# --- not in the list: garbage that breaks a client, and clear words -------------------------------------------------------


@pytest.mark.parametrize("kind", GARBAGE)
async def test_garbage_in_the_properties_is_handed_over_and_can_be_put_aside(
    site: Site, patient: RabbitTransport, kind: str
) -> None:
    stock = Heard()
    await patient.consume(site.stock, 10, stock)
    publish_raw(patient, site.command(), GARBAGE[kind])
    assert await patient.publish([site.command("after")]) == [CONFIRMED]
    await stock.reach(2)
    assert site.proxy.accepted == 2  # nothing was reconnected
    assert stock[1].wire.body == b"after"
    aside = Outgoing(site.topology.dead_address("stock"), stock[0].wire)
    assert await patient.publish([aside]) == [CONFIRMED]
    await site.depth(dead_queue(site.stock), 1)
    (dead,) = await patient.get(dead_queue(site.stock), 1)
    assert UNREADABLE_HEADER not in dead.headers or UNREADABLE_HEADER in stock[0].wire.headers


async def test_headers_that_grow_beyond_a_frame_when_put_aside_do_not_cost_the_connection(
    site: Site, patient: RabbitTransport
) -> None:
    """RabbitMQ hangs up on a content header that is larger than a frame; the message would come again, and again."""
    stock = Heard()
    await patient.consume(site.stock, 10, stock)
    publish_raw(patient, site.command(), GARBAGE["an array of small numbers that grow"])
    await stock.reach(1)
    aside = Outgoing(site.topology.dead_address("stock"), stock[0].wire)
    assert await patient.publish([aside]) == [CONFIRMED]
    assert site.proxy.accepted == 2  # nothing was reconnected
    (dead,) = await patient.get(dead_queue(site.stock), 1)
    assert dead.headers[DROPPED_HEADER] == 1
    assert "junk" not in dead.headers


async def test_the_same_garbage_breaks_the_connection_of_a_plain_aio_pika_consumer(site: Site) -> None:
    """The trap itself: it would come back at every reconnect. Why the properties are read here and not by pamqp."""
    publish_raw(site.direct, site.command(), GARBAGE["an id that is not text"])
    connection = await aio_pika.connect(site.url)
    lost: list[BaseException | None] = []
    connection.close_callbacks.add(lambda _, reason: lost.append(reason))
    channel = await connection.channel()
    with contextlib.suppress(Exception):
        await (await channel.get_queue(site.stock, ensure=False)).consume(lambda _: None)  # type: ignore[arg-type, return-value]
    await until(lambda: bool(lost), "the connection is lost")
    assert "utf-8" in str(lost[0])
    await connection.close()


async def test_a_broker_that_is_not_there_is_named_without_the_password() -> None:
    client = RabbitTransport("amqp://me:s3cret@127.0.0.1:1/", "trap test")
    with pytest.raises(TransportUnavailable, match=r"127\.0\.0\.1:1\b") as refused:
        await client.open()
    assert "s3cret" not in str(refused.value)


async def test_a_broker_that_never_answers_is_given_up_in_time(site: Site) -> None:
    site.proxy.freeze()
    client = site.client(connect_timeout_s=0.2)
    with pytest.raises(TransportUnavailable, match=r"no answer within 0\.2 s"):
        await client.open()


async def test_a_wrong_password_is_called_one(site: Site) -> None:
    client = RabbitTransport(str(URL(site.url).with_password("wr0ng")), "trap test")
    with pytest.raises(TransportUnavailable, match=r"refused the user name or password.*ACCESS_REFUSED") as refused:
        await client.open()
    assert "wr0ng" not in str(refused.value)


async def test_a_virtual_host_that_is_not_there_is_suspected(site: Site) -> None:
    client = RabbitTransport(str(URL(site.url).with_path("/nowhere")), "trap test")
    with pytest.raises(TransportUnavailable, match="virtual host"):
        await client.open()


async def test_closing_leaves_no_task_behind(site: Site) -> None:
    before = asyncio.all_tasks()
    client = RabbitTransport(site.url, "trap test")
    await client.open()
    await client.consume(site.stock, 10, Heard())
    await client.subscribe(site.topology, ["#"], lambda _: None)
    await client.close()
    await until(lambda: asyncio.all_tasks() <= before, "the tasks of the connection have ended")


async def test_closing_does_not_wait_long_for_a_frozen_broker(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("broker.rabbitmq.connection.CLOSE_TIMEOUT_S", 0.1)
    client = site.client()
    await client.open()
    site.proxy.freeze()
    await asyncio.wait_for(client.close(), 2)
