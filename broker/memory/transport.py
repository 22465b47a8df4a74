"""In-memory transport: runs unchanged workers in one process, on real or virtual time.

`MemoryBroker` is the state that clients share, `MemoryTransport` is one client. Beyond the transport protocol, a client can be
`cut` from the broker and restored, and can `crash` as its process would.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice

from broker.memory.broker import MemoryBroker, wires
from broker.memory.queues import Consumer, DelayQueue, Queue, Tap
from broker.topology import Topology, events_exchange
from broker.transport import Delivery, Outgoing, Receipt, Sink, TransportUnavailable, UnsafeTopology, Wire

__all__ = ["MemoryBroker", "MemoryTransport"]

#: How long `publish` waits for a connection that was cut.
RECONNECT_TIMEOUT_S = 2.0


class MemoryTransport:
    """One client of a `MemoryBroker`. Implements `broker.transport.Transport`."""

    def __init__(self, broker: MemoryBroker, *, reconnect_timeout_s: float = RECONNECT_TIMEOUT_S) -> None:
        self._broker = broker
        self._reconnect_timeout_s = reconnect_timeout_s
        self._connected = asyncio.Event()
        self._crashed = False
        #: Connection number, by which a publish notices that its connection was lost.
        self._connection = 0
        self._consumptions: list[_MemoryConsumer] = []
        self._subscriptions: list[_MemorySubscription] = []
        self._cancelled: list[Consumer] = []

    async def open(self) -> None:
        if self._crashed or not self._broker.running:
            raise TransportUnavailable("the in-memory broker is stopped" if not self._crashed else "this client has crashed")
        if self not in self._broker.clients:
            self._broker.clients.append(self)
        self._connected.set()

    async def close(self) -> None:
        self.cut()
        self._consumptions.clear()
        self._subscriptions.clear()
        with suppress(ValueError):
            self._broker.clients.remove(self)

    # --- what can happen to a client --------------------------------------------------------------------------------------

    def crash(self) -> None:
        """Lose the connection permanently, as when the process dies: no later call of this client has any effect."""
        self._crashed = True
        self.cut()
        with suppress(ValueError):
            self._broker.clients.remove(self)

    def cut(self) -> None:
        """Lose the connection. Unsettled deliveries return to their queue; `restore` reconnects and resumes consuming."""
        self._connected.clear()
        self._connection += 1
        for consumer in self.consumers:
            consumer.drop()
        self._cancelled.clear()
        for consumption in self._consumptions:
            consumption.consumer = None
        for subscription in self._subscriptions:
            if subscription.tap is not None:
                subscription.tap.alive = False
                self._broker.unbind(subscription.tap)
                subscription.tap = None

    def restore(self) -> None:
        """Restore the connection, unless the client crashed or the broker is stopped."""
        if not self._crashed and self._broker.running:
            self._connected.set()
            self.resume()

    # --- for the broker ---------------------------------------------------------------------------------------------------

    @property
    def consumers(self) -> list[Consumer]:
        """The consumers that have or may receive deliveries."""
        return self._cancelled + [wanted.consumer for wanted in self._consumptions if wanted.consumer is not None]

    def resume(self) -> None:
        """Start consumers and subscriptions that are not running and whose queue or exchange exists."""
        if not self._connected.is_set():
            return
        for consumption in self._consumptions:
            if consumption.consumer is None:
                with suppress(UnsafeTopology):
                    consumption.start(self._broker)
        for subscription in self._subscriptions:
            if subscription.tap is None:
                with suppress(UnsafeTopology):
                    subscription.start(self._broker)

    def queue_deleted(self, queue: Queue | DelayQueue) -> None:
        """Stop the consumers of a deleted queue; they resume when it is declared again."""
        for consumption in self._consumptions:
            if consumption.consumer is not None and consumption.consumer.queue is queue:
                consumption.consumer.alive = False
                consumption.consumer = None

    # --- the protocol -----------------------------------------------------------------------------------------------------

    async def declare(self, topology: Topology) -> None:
        self._connected_broker().declare(topology)

    async def check(self, topology: Topology) -> None:
        self._connected_broker().check(topology)

    async def delete(self, topology: Topology) -> None:
        broker = self._connected_broker()
        names = set(topology.queue_names())
        self._consumptions = [wanted for wanted in self._consumptions if wanted.queue not in names]
        broker.delete(topology)

    async def purge(self, topology: Topology) -> None:
        broker = self._connected_broker()
        for name in topology.queue_names():
            broker.queue(name).clear()

    async def depth(self, queue: str) -> int:
        return len(self._connected_broker().queue(queue))

    async def get(self, queue: str, limit: int) -> list[Wire]:
        return list(islice(wires(self._connected_broker().queue(queue)), limit))

    async def consume(self, queue: str, prefetch: int, sink: Sink) -> None:
        consumption = _MemoryConsumer(queue, prefetch, sink)
        consumption.start(self._connected_broker())
        self._consumptions.append(consumption)

    async def subscribe(self, topology: Topology, patterns: Sequence[str], sink: Callable[[Wire], None]) -> None:
        subscription = _MemorySubscription(events_exchange(topology.prefix), tuple(patterns), sink)
        subscription.start(self._connected_broker())
        self._subscriptions.append(subscription)

    async def cancel(self) -> None:
        self._cancelled = self.consumers
        for consumer in self._cancelled:
            consumer.queue.leave(consumer)
        self._consumptions.clear()

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        newest: dict[Consumer, int] = {}
        for delivery in deliveries:
            if isinstance(delivery.channel, Consumer) and delivery.channel.alive:
                newest[delivery.channel] = max(delivery.tag, newest.get(delivery.channel, 0))
        for consumer, tag in newest.items():
            consumer.ack(tag)

    async def requeue(self, deliveries: Sequence[Delivery]) -> None:
        given_back: dict[Consumer, set[int]] = {}
        for delivery in deliveries:
            if isinstance(delivery.channel, Consumer) and delivery.channel.alive:
                given_back.setdefault(delivery.channel, set()).add(delivery.tag)
        for consumer, tags in given_back.items():
            consumer.reject(tags)

    async def publish(self, outgoing: Sequence[Outgoing]) -> list[Receipt]:
        in_doubt = [Receipt.UNKNOWN] * len(outgoing)
        if not outgoing or not await self._is_connected():
            return in_doubt
        connection = self._connection
        receipts = [self._broker.publish(item) for item in outgoing]
        await asyncio.sleep(0)  # confirms arrive later, or never
        return receipts if connection == self._connection else in_doubt

    async def _is_connected(self) -> bool:
        """Wait up to the reconnect timeout for a connection; return whether there is one."""
        if not self._connected.is_set() and not self._crashed:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._reconnect_timeout_s):
                    await self._connected.wait()
        return self._connected.is_set()

    def _connected_broker(self) -> MemoryBroker:
        if not self._connected.is_set():
            raise TransportUnavailable("no connection to the in-memory broker")
        return self._broker


@dataclass(slots=True)
class _MemoryConsumer:
    """A queue to consume, and its consumer while the connection and the queue exist."""

    queue: str
    prefetch: int
    sink: Sink
    consumer: Consumer | None = None

    def start(self, broker: MemoryBroker) -> None:
        queue = broker.queue(self.queue)
        assert isinstance(queue, Queue)  # noqa: S101 - a delay queue has no consumers
        self.consumer = Consumer(queue, self.prefetch, self.sink)
        queue.join(self.consumer)


@dataclass(slots=True)
class _MemorySubscription:
    """Patterns to subscribe to, and the subscription while there is a connection."""

    exchange: str
    patterns: tuple[str, ...]
    sink: Callable[[Wire], None]
    tap: Tap | None = None

    def start(self, broker: MemoryBroker) -> None:
        exchange = broker.exchange(self.exchange)
        self.tap = Tap(self.sink)
        for pattern in self.patterns:
            exchange.bind(pattern, self.tap)
