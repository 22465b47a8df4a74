"""Implements the transport protocol on RabbitMQ.

A client has two connections: RabbitMQ stops reading from a publishing connection while it is short of memory or disk, and
acknowledgements must not wait for that. `broker.rabbitmq.connection` keeps a connection alive, `broker.rabbitmq.channels` sends
and receives messages, and `broker.declarations` defines the queues.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

from yarl import URL

from broker import declarations
from broker.rabbitmq import topology_check
from broker.rabbitmq.channels import ConsumeChannel, PublishChannel
from broker.rabbitmq.connection import REQUEST_TIMEOUT_S, BrokerConnection, ControlChannel, Session, broker_request
from broker.topology import Topology, events_exchange
from broker.transport import Delivery, Outgoing, Receipt, Sink, TransportError, UnusableUrl, Wire

#: AMQP heartbeat interval in seconds; aio-pika closes a connection after three times as long without a frame.
HEARTBEAT_S = 10
#: How long a batch waits for its confirms; messages without one are then in doubt.
CONFIRM_TIMEOUT_S = 10.0
#: How long `publish` waits for a lost connection to be restored.
RECONNECT_TIMEOUT_S = 2.0
#: Maximum messages in a subscription's queue; beyond it the oldest are dropped.
SUBSCRIPTION_MAX = 100_000


class RabbitTransport:
    """One client of a RabbitMQ broker. Implements `broker.transport.Transport`.

    `url` as in `amqp://user:password@host:5672/vhost` (`amqps` for TLS); `name` is shown in RabbitMQ's list of connections.
    Raises UnusableUrl."""

    def __init__(
        self,
        url: str,
        name: str,
        *,
        heartbeat_s: int = HEARTBEAT_S,
        connect_timeout_s: float = REQUEST_TIMEOUT_S,
        confirm_timeout_s: float = CONFIRM_TIMEOUT_S,
        reconnect_timeout_s: float = RECONNECT_TIMEOUT_S,
    ) -> None:
        try:
            target = URL(url).update_query(heartbeat=heartbeat_s)
        except ValueError as error:
            raise UnusableUrl(f"the broker's URL cannot be used: {error}") from error
        self._publish_connection = BrokerConnection(
            target.update_query(name=f"{name} out"), self._set_up_publishing, connect_timeout_s
        )
        self._consume_connection = BrokerConnection(
            target.update_query(name=f"{name} in"), self._set_up_consuming, connect_timeout_s
        )
        self._confirm_timeout_s = confirm_timeout_s
        self._reconnect_timeout_s = reconnect_timeout_s
        self._publisher: PublishChannel
        self._receivers: list[_RabbitConsumer | _RabbitSubscription] = []
        self._receivers_lock = asyncio.Lock()

    async def open(self) -> None:
        try:
            await self._publish_connection.open()
            await self._consume_connection.open()
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        self._receivers.clear()
        await self._consume_connection.close()
        await self._publish_connection.close()

    # --- publishing -------------------------------------------------------------------------------------------------------

    async def publish(self, outgoing: Sequence[Outgoing]) -> list[Receipt]:
        if not outgoing or not await self._can_publish():
            return [Receipt.UNKNOWN] * len(outgoing)
        batch = self._publisher.publish(outgoing)
        timer = asyncio.get_running_loop().call_later(self._confirm_timeout_s, batch.abandon)
        try:
            await batch.done
        finally:
            timer.cancel()
        return batch.result()

    async def _can_publish(self) -> bool:
        """Wait up to the reconnect timeout for a connection that accepts more bytes; return whether there is one.

        While RabbitMQ blocks a connection its socket fills up; without this check every retry would add to the write buffer."""
        with suppress(TimeoutError, OSError):
            async with asyncio.timeout(self._reconnect_timeout_s):
                session = await self._publish_connection.wait()
                await session.writer.drain()
                return session is self._publish_connection.session
        return False

    async def _set_up_publishing(self, session: Session) -> None:
        channel = await session.open_channel(confirms=True)
        self._publisher = PublishChannel(channel.number or 0, session.writer, session.end, session.frame_max)
        session.register(channel, self._publisher)

    # --- consuming --------------------------------------------------------------------------------------------------------

    async def consume(self, queue: str, prefetch: int, sink: Sink) -> None:
        await self.depth(queue)  # raises for a missing queue without affecting the other consumers
        await self._add(_RabbitConsumer(queue, prefetch, sink))

    async def subscribe(self, topology: Topology, patterns: Sequence[str], sink: Callable[[Wire], None]) -> None:
        await self._add(_RabbitSubscription(events_exchange(topology.prefix), tuple(patterns), sink))

    async def cancel(self) -> None:
        await self._cancel(lambda _: True)

    async def _cancel(self, matches: Callable[[str], bool]) -> None:
        """Stop the consumers of the queues that `matches`."""
        async with self._receivers_lock:
            consumers = [
                receiver for receiver in self._receivers if isinstance(receiver, _RabbitConsumer) and matches(receiver.queue)
            ]
            self._receivers = [receiver for receiver in self._receivers if receiver not in consumers]
            for consumer in consumers:
                with suppress(TransportError):  # the connection is lost, and the consumer with it
                    await consumer.stop()

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        newest: dict[ConsumeChannel, int] = {}
        for delivery in deliveries:
            channel = delivery.channel
            if isinstance(channel, ConsumeChannel) and channel.alive:
                newest[channel] = max(delivery.tag, newest.get(channel, 0))
        for channel, tag in newest.items():
            channel.ack(tag)

    async def requeue(self, deliveries: Sequence[Delivery]) -> None:
        for delivery in deliveries:
            channel = delivery.channel
            if isinstance(channel, ConsumeChannel) and channel.alive:
                channel.reject(delivery.tag)

    async def _add(self, receiver: "_RabbitConsumer | _RabbitSubscription") -> None:
        """Start a receiver now, if there is a connection, and again on every new one."""
        async with self._receivers_lock:
            if self._consume_connection.session is not None:
                await receiver.start(self._consume_connection.session)
            self._receivers.append(receiver)

    async def _set_up_consuming(self, session: Session) -> None:
        async with self._receivers_lock:
            for receiver in self._receivers:
                await receiver.start(session)

    # --- administration ---------------------------------------------------------------------------------------------------

    async def declare(self, topology: Topology) -> None:
        async with self._control_channel() as channel:
            for name, kind in declarations.exchanges(topology).items():
                async with broker_request(f"declaring exchange {name}"):
                    await channel.declare_exchange(name, kind, durable=True)
            for spec in declarations.queues(topology):
                async with broker_request(f"declaring queue {spec.name}"):
                    queue = await channel.declare_queue(spec.name, durable=True, arguments=dict(spec.arguments))
                    for exchange, routing_key in spec.bindings:
                        await queue.bind(exchange, routing_key)

    async def check(self, topology: Topology) -> None:
        async with self._control_channel() as channel:
            for name in declarations.exchanges(topology):
                async with broker_request(f"checking exchange {name}"):
                    await channel.get_exchange(name, ensure=True)
        await self.counts(list(topology.queue_names()))

    async def purge(self, topology: Topology) -> None:
        async with self._control_channel() as channel:
            for name in topology.queue_names():
                async with broker_request(f"purging queue {name}"):
                    await (await channel.get_queue(name, ensure=False)).purge()

    async def delete(self, topology: Topology) -> None:
        await self._cancel(set(topology.queue_names()).__contains__)
        async with self._control_channel() as channel, broker_request(f"deleting the topology {topology.prefix}"):
            for name in topology.queue_names():
                # RabbitMQ closes the connection on a conditional delete of a quorum queue, which is aio-pika's default.
                await channel.queue_delete(name, if_unused=False, if_empty=False)
            for name in declarations.exchanges(topology):
                await channel.exchange_delete(name)

    async def depth(self, queue: str) -> int:
        messages, _ = (await self.counts([queue]))[queue]
        return messages

    async def counts(self, queues: Sequence[str]) -> dict[str, tuple[int, int]]:
        """Return queue -> (waiting messages, consumers). Raises QueueMissing."""
        found: dict[str, tuple[int, int]] = {}
        async with self._control_channel() as channel:
            for name in queues:
                async with broker_request(f"counting queue {name}"):
                    declared = (await channel.declare_queue(name, passive=True)).declaration_result
                    found[name] = declared.message_count or 0, declared.consumer_count or 0
        return found

    async def product(self) -> tuple[str, str]:
        """Return the product name and version that the broker reports."""
        return (await self._live_session()).product

    async def inspect(self, topology: Topology) -> list[topology_check.DeclaredObject]:
        """Compare each exchange and queue on the broker with `topology`; changes nothing."""
        return await topology_check.inspect(self._control_channel, topology)

    async def get(self, queue: str, limit: int) -> list[Wire]:
        count = min(limit, await self.depth(queue))
        session = await self._live_session()
        async with self._control_channel() as channel, broker_request(f"reading queue {queue}"):
            get_channel = ConsumeChannel(channel.number or 0, session.writer, session.end, _no_sink)
            session.register(channel, get_channel)
            wires = await asyncio.gather(*get_channel.get(queue, count))
        # The channel is closed now, which returned its messages to the queue.
        session.unregister(get_channel)
        return [wire for wire in wires if wire is not None]

    async def _live_session(self) -> Session:
        """Return the live session of the consuming connection. Raises TransportUnavailable after the reconnect timeout."""
        async with broker_request("waiting to be reconnected", self._reconnect_timeout_s):
            return await self._consume_connection.wait()

    @asynccontextmanager
    async def _control_channel(self) -> AsyncIterator[ControlChannel]:
        """Open a channel for one administrative task: RabbitMQ closes a channel at the first error."""
        session = await self._live_session()
        async with broker_request("opening a channel"):
            channel = await session.open_channel()
        try:
            yield channel
        finally:
            with suppress(TransportError):
                async with broker_request("closing a channel"):
                    await channel.close()


class _RabbitConsumer:
    """A queue to consume, restarted on every new connection."""

    def __init__(self, queue: str, prefetch: int, sink: Sink) -> None:
        self.queue = queue
        self._prefetch = prefetch
        self._sink = sink
        self._stop: Callable[[], Awaitable[object]] | None = None

    async def start(self, session: Session) -> None:
        async with broker_request(f"consuming queue {self.queue}"):
            channel = await session.open_channel()
            await channel.set_qos(prefetch_count=self._prefetch)
            session.register(channel, ConsumeChannel(channel.number or 0, session.writer, session.end, self._sink))
            queue = await channel.get_queue(self.queue, ensure=False)
            tag = await queue.consume(_no_callback)
        self._stop = lambda: queue.cancel(tag)

    async def stop(self) -> None:
        """Stop consuming. Deliveries already handed over may still be settled."""
        if self._stop is not None:
            async with broker_request(f"cancelling the consumer of queue {self.queue}"):
                await self._stop()


class _RabbitSubscription:
    """A subscription to events through a private queue, which is deleted with each connection."""

    def __init__(self, exchange: str, patterns: tuple[str, ...], sink: Callable[[Wire], None]) -> None:
        self._exchange = exchange
        self._patterns = patterns
        self._sink = sink

    async def start(self, session: Session) -> None:
        async with broker_request(f"subscribing to {self._exchange}"):
            channel = await session.open_channel()
            arguments: dict[str, Any] = {"x-queue-type": "classic", "x-max-length": SUBSCRIPTION_MAX, "x-overflow": "drop-head"}
            queue = await channel.declare_queue(durable=False, exclusive=True, auto_delete=True, arguments=arguments)
            for pattern in self._patterns:
                await queue.bind(self._exchange, pattern)
            own_channel = ConsumeChannel(
                channel.number or 0, session.writer, session.end, lambda delivery: self._sink(delivery.wire)
            )
            session.register(channel, own_channel)
            await queue.consume(_no_callback, no_ack=True)


def _no_sink(_: Delivery) -> None:
    """Placeholder for a sink that is never called."""
    raise AssertionError


async def _no_callback(_: object) -> None:
    """Placeholder for aio-pika's callback: `FrameProtocol` handles the deliveries before aio-pika sees them."""
    raise AssertionError
