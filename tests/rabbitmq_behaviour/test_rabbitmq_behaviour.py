"""Known pitfalls of RabbitMQ and aio-pika, and how the transport avoids each of them.

On a real broker only. A proxy in between simulates outages; the broker itself is not stopped.
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
from tests.support.broker.transports import Deliveries, fresh, message
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
        self.direct = RabbitTransport(url, "behaviour test")

    @property
    def proxied(self) -> str:
        return str(URL(self.url).with_host("127.0.0.1").with_port(self.proxy.port))

    def client(self, **options: float) -> RabbitTransport:
        """Return a client behind the proxy, not opened. Its connections arrive there in the order publishing, consuming."""
        return RabbitTransport(self.proxied, "behaviour test", reconnect_timeout_s=0.2, **options)  # type: ignore[arg-type]

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
async def default_client(site: Site) -> AsyncIterator[RabbitTransport]:
    """As `client`, with the default timeouts, for tests in which no confirm may time out on a busy machine."""
    made = site.client()
    await made.open()
    yield made
    await made.close()


# --- poison messages and the delivery limit -------------------------------------------------------------------------------


async def test_message_that_crashes_its_consumer_is_dead_lettered(site: Site, client: RabbitTransport) -> None:
    stock = Deliveries()
    await client.consume(site.stock, 1, stock)
    await site.direct.publish([site.command("poison")])
    for delivered in range(1, site.topology.delivery_limit + 2):
        await stock.reach(delivered)
        site.proxy.reset()
    await site.depth(dead_queue(site.stock), 1)
    assert len(stock) == site.topology.delivery_limit + 1


def test_work_queues_declare_delivery_limit_and_dead_lettering() -> None:
    topology = fresh()
    specs = {spec.name: spec.arguments for spec in declarations.queues(topology)}
    for work in topology.queues:
        arguments = specs[queue_of(topology.prefix, work.worker)]
        assert arguments["x-delivery-limit"] == topology.delivery_limit
        assert arguments["x-dead-letter-routing-key"] in specs
        assert arguments["x-dead-letter-strategy"] == "at-least-once"
    assert all("x-delivery-limit" in arguments for name, arguments in specs.items() if name.endswith(".dead"))


async def test_delivery_limit_also_hits_neighbours_of_a_poison_message(site: Site, client: RabbitTransport) -> None:
    """RabbitMQ offers no way to prevent this: it is why a worker isolates suspected messages after a crash."""
    stock = Deliveries()
    await client.consume(site.stock, 10, stock)
    await site.direct.publish([site.command(str(number)) for number in range(10)])
    for delivered in range(1, site.topology.delivery_limit + 2):
        await stock.reach(10 * delivered)
        site.proxy.reset()
    await site.depth(dead_queue(site.stock), 10)


# --- publishing -----------------------------------------------------------------------------------------------------------


async def test_frozen_broker_leaves_a_publish_in_doubt(site: Site, client: RabbitTransport) -> None:
    site.proxy.freeze()
    assert await client.publish([site.command()]) == [UNKNOWN]


async def test_request_on_a_lost_connection_raises_unavailable(site: Site, client: RabbitTransport) -> None:
    site.proxy.freeze()
    request = asyncio.create_task(client.depth(site.stock))
    with contextlib.suppress(TimeoutError):  # it is running, and gets no response
        await asyncio.wait_for(asyncio.shield(request), 0.1)
    assert not request.done()
    site.proxy.cut()
    with pytest.raises(TransportUnavailable, match="the connection was lost"):
        await request


async def test_cancellation_by_the_library_is_a_lost_connection() -> None:
    future = asyncio.get_running_loop().create_future()
    future.cancel()
    with pytest.raises(TransportUnavailable, match="asking: the connection was lost"):
        async with broker_request("asking"):
            await future


async def test_cancellation_of_the_caller_is_passed_on() -> None:
    async def ask() -> None:
        async with broker_request("asking"):
            await asyncio.get_running_loop().create_future()

    task = asyncio.create_task(ask())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("instead", [None, ConnectionError("closed")])
async def test_cancellation_that_aiormq_swallows_is_raised_again(instead: Exception | None) -> None:
    """It does so when a channel is being closed at the same moment, which is a third of the duration of `depth`."""

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


async def test_late_confirm_is_not_credited_to_another_publish(site: Site, client: RabbitTransport) -> None:
    stock = Deliveries()
    await site.direct.consume(site.stock, 10, stock)
    site.proxy.freeze()
    assert await client.publish([site.command("in doubt")]) == [UNKNOWN]
    site.proxy.thaw()
    batch = [site.command("next"), site.command(worker="unbound"), site.command("last")]
    assert await client.publish(batch) == [CONFIRMED, Receipt.UNROUTABLE, CONFIRMED]
    await stock.reach(3)
    assert stock.bodies == [b"in doubt", b"next", b"last"]


async def test_publish_waits_for_a_reconnect_during_an_outage(site: Site, client: RabbitTransport) -> None:
    site.proxy.cut()
    loop = asyncio.get_running_loop()
    await client.publish([site.command()])  # notices the loss
    started_at = loop.time()
    assert await client.publish([site.command()]) == [UNKNOWN]
    assert loop.time() - started_at >= 0.19


async def test_publish_succeeds_if_the_outage_ends_in_time(site: Site) -> None:
    client = RabbitTransport(site.proxied, "behaviour test", reconnect_timeout_s=10)
    await client.open()
    site.proxy.cut()
    publishing = asyncio.create_task(client.publish([site.command()]))
    await asyncio.wait([publishing], timeout=0.1)
    site.proxy.restore()
    # The first may have been written to the lost connection; the second waits for the new one.
    assert (await publishing) in ([CONFIRMED], [UNKNOWN])
    assert await client.publish([site.command()]) == [CONFIRMED]
    await client.close()


async def test_aio_pika_reports_success_for_an_unroutable_message(site: Site) -> None:
    """The pitfall itself: the reason why receipts include returns, and why addresses say what is mandatory."""
    async with await aio_pika.connect(site.url) as connection, connection.channel() as channel:
        exchange = await channel.get_exchange(commands_exchange(site.topology.prefix), ensure=False)
        await exchange.publish(aio_pika.Message(b""), "unbound", mandatory=True)  # does not raise
    assert await site.direct.publish([site.command(worker="unbound")]) == [Receipt.UNROUTABLE]


async def test_delivery_whose_sink_raises_is_redelivered(site: Site, client: RabbitTransport) -> None:
    stock = Deliveries()

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
    assert [type(context["exception"]) for context in errors] == [LookupError]  # it is reported


# --- connections and channels ---------------------------------------------------------------------------------------------


async def test_acks_continue_while_publishing_is_blocked(site: Site, client: RabbitTransport) -> None:
    stock = Deliveries()
    await client.consume(site.stock, 1, stock)
    assert site.proxy.accepted == 2
    site.proxy.freeze(only=0)
    assert await client.publish([site.command("blocked")]) == [UNKNOWN]
    await site.direct.publish([site.command(str(number)) for number in range(3)])
    for delivered in range(1, 4):
        await stock.reach(delivered)
        await client.ack(stock[-1:])
    await site.depth(site.stock, 0)


async def test_retries_do_not_fill_the_buffer_of_a_blocked_connection(site: Site) -> None:
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


async def test_blocked_publisher_resumes_on_the_same_connection(site: Site, client: RabbitTransport) -> None:
    """The proxy simulates the alarm: it sends connection.blocked and stops reading. A real alarm would affect other tests."""
    stock = Deliveries()
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
    assert site.proxy.accepted == 2, "a connection was replaced"


@pytest.mark.parametrize("connection", [0, 1], ids=["publishing", "consuming"])
async def test_half_open_connection_is_replaced_after_missed_heartbeats(site: Site, connection: int) -> None:
    """Only the heartbeats are missing: aio-pika waits for three of them and a grace period."""
    client, stock = site.client(heartbeat_s=1), Deliveries()
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


async def test_consumer_resumes_after_the_broker_closes_its_channel(site: Site, client: RabbitTransport) -> None:
    """RabbitMQ closes a channel that keeps a delivery unsettled too long. Here the cause is an unknown delivery tag."""
    stock = Deliveries()
    await client.consume(site.stock, 10, stock)
    await site.direct.publish([site.command("1")])
    await stock.reach(1)
    channel = stock[0].channel
    assert channel is not None
    await client.ack([Delivery(Wire(b""), redelivered=False, tag=999, channel=channel)])
    await stock.reach(2)
    assert stock[1].redelivered


async def test_consumer_resumes_when_its_deleted_queue_is_declared(site: Site, client: RabbitTransport) -> None:
    """If that follows at once, RabbitMQ 3.10 may not cancel the consumer: so purge rather than delete and declare."""
    stock = Deliveries()
    await client.consume(site.stock, 10, stock)
    session = client._consume_connection.session
    assert session is not None
    await site.direct.delete(site.topology)
    await until(session.ended.done, "the consumer was cancelled")
    await site.direct.declare(site.topology)
    await site.direct.publish([site.command("1")])
    await stock.reach(1)


# --- delays ---------------------------------------------------------------------------------------------------------------


async def test_short_delay_does_not_wait_behind_a_long_one(site: Site, client: RabbitTransport) -> None:
    stock = Deliveries()
    await client.consume(site.stock, 10, stock)
    long, short = (Outgoing(site.topology.retry_address("stock", level), message(str(level))) for level in (3, 0))
    assert await client.publish([long, short]) == [CONFIRMED] * 2
    await stock.reach(1)
    assert stock.bodies == [b"0"]


async def test_delay_is_limited_to_the_level_of_its_queue(site: Site, client: RabbitTransport) -> None:
    stock = Deliveries()
    await client.consume(site.stock, 10, stock)
    address = site.topology.retry_address("stock", 0)
    await client.publish([Outgoing(address, message("1"), delay_s=3600), Outgoing(address, message("2"), delay_s=0.0)])
    await stock.reach(2)


# --- permissions ----------------------------------------------------------------------------------------------------------


async def test_account_without_declare_can_consume_and_reconnect(site: Site) -> None:
    with lent(site.url, read=f"^{site.stock}$") as url:
        proxied = URL(url).with_host("127.0.0.1").with_port(site.proxy.port)
        worker, stock = RabbitTransport(str(proxied), "behaviour test"), Deliveries()
        await worker.open()
        await worker.consume(site.stock, 10, stock)
        await site.direct.publish([site.command("1")])
        await stock.reach(1)
        site.proxy.reset()
        await stock.reach(2)
        with pytest.raises(UnsafeTopology, match="no permission"):
            await worker.declare(Topology(f"{site.topology.prefix}x", ()))
        await worker.close()


# --- weak references of aio-pika ------------------------------------------------------------------------------------------


async def test_consumer_survives_garbage_collection_and_reconnect(site: Site, client: RabbitTransport) -> None:
    stock, received = Deliveries(), list[Wire]()
    await client.consume(site.stock, 10, stock)
    await client.subscribe(site.topology, ["#"], received.append)
    gc.collect()
    await site.direct.publish([site.command("1")])
    await stock.reach(1)
    site.proxy.reset()
    await stock.reach(2)
    gc.collect()
    await site.direct.publish([site.command("2")])
    await stock.reach(3)


def test_aio_pika_version_is_the_tested_one() -> None:
    assert importlib.metadata.version("aio-pika").startswith("10.")
    assert importlib.metadata.version("aiormq").startswith("7.")


# --- malformed properties, error messages and closing ---------------------------------------------------------------------


@pytest.mark.parametrize("kind", GARBAGE)
async def test_malformed_properties_are_delivered_and_dead_lettered(
    site: Site, default_client: RabbitTransport, kind: str
) -> None:
    stock = Deliveries()
    await default_client.consume(site.stock, 10, stock)
    publish_raw(default_client, site.command(), GARBAGE[kind])
    assert await default_client.publish([site.command("after")]) == [CONFIRMED]
    await stock.reach(2)
    assert site.proxy.accepted == 2  # nothing was reconnected
    assert stock[1].wire.body == b"after"
    dead_letter = Outgoing(site.topology.dead_address("stock"), stock[0].wire)
    assert await default_client.publish([dead_letter]) == [CONFIRMED]
    await site.depth(dead_queue(site.stock), 1)
    (dead,) = await default_client.get(dead_queue(site.stock), 1)
    assert UNREADABLE_HEADER not in dead.headers or UNREADABLE_HEADER in stock[0].wire.headers


async def test_headers_that_outgrow_a_frame_do_not_end_the_connection(site: Site, default_client: RabbitTransport) -> None:
    """RabbitMQ closes the connection on a content header larger than a frame, again at every redelivery."""
    stock = Deliveries()
    await default_client.consume(site.stock, 10, stock)
    publish_raw(default_client, site.command(), GARBAGE["an array of small numbers that grow"])
    await stock.reach(1)
    dead_letter = Outgoing(site.topology.dead_address("stock"), stock[0].wire)
    assert await default_client.publish([dead_letter]) == [CONFIRMED]
    assert site.proxy.accepted == 2  # nothing was reconnected
    (dead,) = await default_client.get(dead_queue(site.stock), 1)
    assert dead.headers[DROPPED_HEADER] == 1
    assert "junk" not in dead.headers


async def test_malformed_properties_break_a_plain_aio_pika_consumer(site: Site) -> None:
    """The pitfall itself, at every reconnect: the reason why the transport reads properties itself, and not by pamqp."""
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


async def test_unreachable_broker_is_named_without_the_password() -> None:
    client = RabbitTransport("amqp://me:s3cret@127.0.0.1:1/", "behaviour test")
    with pytest.raises(TransportUnavailable, match=r"127\.0\.0\.1:1\b") as refused:
        await client.open()
    assert "s3cret" not in str(refused.value)


async def test_connecting_to_a_silent_broker_times_out(site: Site) -> None:
    site.proxy.freeze()
    client = site.client(connect_timeout_s=0.2)
    with pytest.raises(TransportUnavailable, match=r"no answer within 0\.2 s"):
        await client.open()


async def test_wrong_password_is_named_as_the_cause(site: Site) -> None:
    client = RabbitTransport(str(URL(site.url).with_password("wr0ng")), "behaviour test")
    with pytest.raises(TransportUnavailable, match=r"refused the user name or password.*ACCESS_REFUSED") as refused:
        await client.open()
    assert "wr0ng" not in str(refused.value)


async def test_missing_virtual_host_is_named_as_the_likely_cause(site: Site) -> None:
    client = RabbitTransport(str(URL(site.url).with_path("/nowhere")), "behaviour test")
    with pytest.raises(TransportUnavailable, match="virtual host"):
        await client.open()


async def test_closing_leaves_no_task_behind(site: Site) -> None:
    before = asyncio.all_tasks()
    client = RabbitTransport(site.url, "behaviour test")
    await client.open()
    await client.consume(site.stock, 10, Deliveries())
    await client.subscribe(site.topology, ["#"], lambda _: None)
    await client.close()
    await until(lambda: asyncio.all_tasks() <= before, "the tasks of the connection have ended")


async def test_closing_does_not_wait_long_for_a_frozen_broker(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("broker.rabbitmq.connection.CLOSE_TIMEOUT_S", 0.1)
    client = site.client()
    await client.open()
    site.proxy.freeze()
    await asyncio.wait_for(client.close(), 2)
