"""A broker in memory and its transport: the same workers run on it in one process, under real or virtual time.

Room: broker/. `MemoryBroker` is the state that its clients share and shows its dead letters; `MemoryTransport` is one client.
What a test or a simulation does to them, besides the transport protocol, are `cut` and `restore` (a connection), `crash` (a
process) and `stop` and `start` (the broker).
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import islice

from broker import furniture
from broker.memory_queues import Choose, Consumer, DelayQueue, Exchange, Queue, Tap, Target
from broker.properties import BROKERS_OWN
from broker.topology import (
    RETRY_LEVELS_S,
    Topology,
    WorkQueue,
    dead_queue,
    events_exchange,
    queue_of,
    retry_queue,
)
from broker.transport import Delivery, Outgoing, Receipt, Sink, TransportUnavailable, UnsafeTopology, Wire

#: How long `publish` waits for a connection that was cut.
RECONNECT_PATIENCE_S = 2.0


class MemoryBroker:
    """Exchanges, queues and bindings, shared by any number of `MemoryTransport`s on one event loop.

    `choose` says which of the waiting messages of a queue goes next; without it, the oldest. Functions in `on_publish` see every
    message that reaches the broker, commands and retries included."""

    def __init__(self, choose: Choose | None = None) -> None:
        self.on_publish: list[Callable[[Outgoing], None]] = []
        self.running = True
        self.clients: list[MemoryTransport] = []
        self._choose = choose
        self._exchanges: dict[str, Exchange] = {}
        self._queues: dict[str, Queue | DelayQueue] = {}
        self._prefixes: list[str] = []

    # --- for tests, demo and simulation -----------------------------------------------------------------------------------

    def dead_letters(self, worker: str) -> list[Wire]:
        """The dead letters of a worker, oldest first, under every prefix declared here."""
        queues = (self._queues.get(dead_queue(queue_of(prefix, worker))) for prefix in self._prefixes)
        return [wire for queue in queues if queue is not None for wire in _wires(queue)]

    def unfinished(self) -> int:
        """How many messages somebody still has to handle: waiting, delayed or unsettled; dead letters not counted."""
        alive = [queue for queue in self._queues.values() if not (isinstance(queue, Queue) and queue.is_dead_letters)]
        consumers = [consumer for client in self.clients for consumer in client.consumers]
        return sum(len(queue) for queue in alive) + sum(consumer.unsettled for consumer in consumers)

    def stop(self) -> None:
        """The broker goes down: every connection is cut, nobody can connect. It keeps what it holds."""
        self.running = False
        for client in list(self.clients):
            client.cut()

    def start(self) -> None:
        """The broker comes back, and with it every connection."""
        self.running = True
        for client in list(self.clients):
            client.restore()

    # --- for the transport ------------------------------------------------------------------------------------------------

    def declare(self, topology: Topology) -> None:
        for name, kind in furniture.exchanges(topology).items():
            self._exchanges.setdefault(name, Exchange(kind))
        for work in topology.queues:
            self._declare_queues(topology, work)
        for spec in furniture.queues(topology):
            for exchange, routing_key in spec.bindings:
                self._exchanges[exchange].bind(routing_key, self._queues[spec.name])
        if topology.prefix not in self._prefixes:
            self._prefixes.append(topology.prefix)

    def _declare_queues(self, topology: Topology, work: WorkQueue) -> None:
        """A work queue with its dead letters and its delay queues. Raises UnsafeTopology if it is there with other options."""
        name = queue_of(topology.prefix, work.worker)
        there = self._queues.get(name)
        if isinstance(there, Queue):
            if (there.limit, there.single_active) != (topology.delivery_limit, work.single_active):
                msg = f"queue {name} exists but was declared differently. Drain and delete it, or use another prefix"
                raise UnsafeTopology(msg)
            return
        dead = Queue(limit=0, dead=None, single_active=False, choose=None)
        queue = Queue(limit=topology.delivery_limit, dead=dead, single_active=work.single_active, choose=self._choose)
        self._queues |= {name: queue, dead_queue(name): dead}
        for level, level_s in enumerate(RETRY_LEVELS_S):
            self._queues[retry_queue(name, level)] = DelayQueue(level_s, queue)

    def delete(self, topology: Topology) -> None:
        for name in topology.queue_names():
            queue = self._queues.pop(name, None)
            if queue is not None:
                queue.clear()
        for name in furniture.exchanges(topology):
            self._exchanges.pop(name, None)
        with suppress(ValueError):
            self._prefixes.remove(topology.prefix)

    def publish(self, outgoing: Outgoing) -> Receipt:
        for hook in self.on_publish:
            hook(outgoing)
        address = outgoing.address
        exchange = self._exchanges.get(address.exchange)
        if exchange is None:
            return Receipt.UNKNOWN  # as RabbitMQ does it: the channel is closed, and nobody knows
        targets = exchange.route(address.routing_key)
        wire = outgoing.wire
        if not BROKERS_OWN.isdisjoint(wire.headers):
            wire = replace(wire, headers={key: value for key, value in wire.headers.items() if key not in BROKERS_OWN})
        for target in targets:
            target.accept(wire, outgoing.delay_s)
        return Receipt.CONFIRMED if targets or not address.mandatory else Receipt.UNROUTABLE

    def exchange(self, name: str) -> Exchange:
        exchange = self._exchanges.get(name)
        if exchange is None:
            msg = f"exchange {name} does not exist. Declare the topology first"
            raise UnsafeTopology(msg)
        return exchange

    def queue(self, name: str) -> Queue | DelayQueue:
        queue = self._queues.get(name)
        if queue is None:
            msg = f"queue {name} does not exist. Declare the topology first"
            raise UnsafeTopology(msg)
        return queue

    def unbind(self, target: Target) -> None:
        for exchange in self._exchanges.values():
            exchange.unbind(target)


class MemoryTransport:
    """One client of a `MemoryBroker`. Implements `broker.transport.Transport`."""

    def __init__(self, broker: MemoryBroker, *, reconnect_patience_s: float = RECONNECT_PATIENCE_S) -> None:
        self._broker = broker
        self._reconnect_patience_s = reconnect_patience_s
        self._connected = asyncio.Event()
        self._crashed = False
        #: Counts connections, so that a publish notices that it began on another one.
        self._connection = 0
        self.consumers: list[Consumer] = []
        self._taps: list[Tap] = []
        self._to_consume: list[tuple[str, int, Sink]] = []
        self._to_hear: list[tuple[str, Sequence[str], Callable[[Wire], None]]] = []

    async def open(self) -> None:
        if self._crashed or not self._broker.running:
            raise TransportUnavailable("the broker in memory is stopped" if not self._crashed else "this client has crashed")
        if self not in self._broker.clients:
            self._broker.clients.append(self)
        self._connected.set()

    async def close(self) -> None:
        self.cut()
        self._to_consume.clear()
        self._to_hear.clear()
        with suppress(ValueError):
            self._broker.clients.remove(self)

    # --- what can happen to a client --------------------------------------------------------------------------------------

    def crash(self) -> None:
        """The process dies: the connection is gone at once, and nothing this client does from now on has any effect."""
        self._crashed = True
        self.cut()
        with suppress(ValueError):
            self._broker.clients.remove(self)

    def cut(self) -> None:
        """The connection is lost. What was unsettled goes back; `restore` brings connection, consumers and subscriptions back."""
        self._connected.clear()
        self._connection += 1
        for consumer in self.consumers:
            consumer.drop()
        self.consumers.clear()
        for tap in self._taps:
            tap.alive = False
            self._broker.unbind(tap)
        self._taps.clear()

    def restore(self) -> None:
        """The connection is back, unless the client crashed or the broker is stopped."""
        if self._crashed or not self._broker.running or self._connected.is_set():
            return
        self._connected.set()
        for wanted in self._to_consume:
            self._start_consumer(*wanted)
        for heard in self._to_hear:
            self._start_tap(*heard)

    # --- the protocol -----------------------------------------------------------------------------------------------------

    async def declare(self, topology: Topology) -> None:
        self._reached().declare(topology)

    async def delete(self, topology: Topology) -> None:
        self._reached().delete(topology)

    async def purge(self, topology: Topology) -> None:
        broker = self._reached()
        for name in topology.queue_names():
            broker.queue(name).clear()

    async def depth(self, queue: str) -> int:
        return len(self._reached().queue(queue))

    async def get(self, queue: str, limit: int) -> list[Wire]:
        return list(islice(_wires(self._reached().queue(queue)), limit))

    async def consume(self, queue: str, prefetch: int, sink: Sink) -> None:
        self._reached().queue(queue)
        self._start_consumer(queue, prefetch, sink)
        self._to_consume.append((queue, prefetch, sink))

    async def subscribe(self, topology: Topology, patterns: Sequence[str], sink: Callable[[Wire], None]) -> None:
        exchange = events_exchange(topology.prefix)
        self._reached().exchange(exchange)
        self._start_tap(exchange, patterns, sink)
        self._to_hear.append((exchange, patterns, sink))

    async def cancel(self) -> None:
        self._to_consume.clear()
        for consumer in self.consumers:
            consumer.queue.leave(consumer)

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
        await asyncio.sleep(0)  # the confirms come back later, or never
        return receipts if connection == self._connection else in_doubt

    async def _is_connected(self) -> bool:
        """Whether there is a connection, or will be in a short time."""
        if not self._connected.is_set() and not self._crashed:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._connected.wait(), self._reconnect_patience_s)
        return self._connected.is_set()

    def _reached(self) -> MemoryBroker:
        if not self._connected.is_set():
            raise TransportUnavailable("no connection to the broker in memory")
        return self._broker

    def _start_consumer(self, name: str, prefetch: int, sink: Sink) -> None:
        with suppress(UnsafeTopology):  # deleted while the connection was away: nothing to consume
            queue = self._broker.queue(name)
            assert isinstance(queue, Queue)  # noqa: S101 - nobody consumes a delay queue
            consumer = Consumer(queue, prefetch, sink)
            self.consumers.append(consumer)
            queue.join(consumer)

    def _start_tap(self, name: str, patterns: Sequence[str], sink: Callable[[Wire], None]) -> None:
        tap = Tap(sink)
        self._taps.append(tap)
        with suppress(UnsafeTopology):
            for pattern in patterns:
                self._broker.exchange(name).bind(pattern, tap)


def _wires(queue: Queue | DelayQueue) -> Iterator[Wire]:
    return iter(queue.wires()) if isinstance(queue, DelayQueue) else (stored.wire for stored in queue.waiting)
