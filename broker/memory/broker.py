"""State of the in-memory broker, shared by its clients: exchanges, queues and bindings by name.

Also holds what tests, the demo and the simulation need: dead letters, the number of unfinished messages, hooks for every publish,
and outages.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Protocol

from broker import declarations
from broker.amqp_properties import BROKER_HEADERS
from broker.memory.queues import Choose, Consumer, DelayQueue, Exchange, Queue, Route, Target
from broker.topology import (
    RETRY_LEVELS_S,
    Topology,
    WorkQueue,
    dead_queue,
    delay_queue,
    dropped_queue,
    queue_of,
    retry_exchange,
)
from broker.transport import DeclarationDiffers, Outgoing, QueueMissing, Receipt, Wire

#: Takes a message on its way to a queue; returns a delay in seconds for each copy that arrives there.
TransferDelays = Callable[[Outgoing], Sequence[float]]


class Client(Protocol):
    """What the broker needs of its clients."""

    @property
    def consumers(self) -> list[Consumer]:
        """The consumers that have or may receive deliveries."""

    def cut(self) -> None:
        """Lose the connection."""

    def restore(self) -> None:
        """Restore the connection."""

    def resume(self) -> None:
        """Start the consumers and subscriptions that were waiting for a queue or exchange."""

    def queue_deleted(self, queue: Queue | DelayQueue) -> None:
        """Stop the consumers of a deleted queue."""


class MemoryBroker:
    """Exchanges, queues and bindings, shared by any number of `MemoryTransport`s on one event loop.

    `choose` selects the next waiting message of a queue; by default the oldest. `transfer_delays` returns when each copy of a
    message arrives; by default one copy arrives at once. The functions in `on_publish` are called with every message that reaches
    the broker, commands and retries included."""

    def __init__(self, choose: Choose | None = None, transfer_delays: TransferDelays | None = None) -> None:
        self.on_publish: list[Callable[[Outgoing], None]] = []
        self.running = True
        self.clients: list[Client] = []
        self._choose = choose
        self._transfer_delays = transfer_delays
        self._in_transit = 0
        self._exchanges: dict[str, Exchange] = {}
        self._queues: dict[str, Queue | DelayQueue] = {}
        self._prefixes: list[str] = []

    # --- for tests, demo and simulation -----------------------------------------------------------------------------------

    def dead_letters(self, worker: str) -> list[Wire]:
        """Return the dead letters of a worker under every declared prefix, oldest first."""
        queues = (self._queues.get(dead_queue(queue_of(prefix, worker))) for prefix in self._prefixes)
        return [wire for queue in queues if queue is not None for wire in wires(queue)]

    def unfinished(self) -> int:
        """Return how many messages are in transit, waiting or unsettled; dead letters are not counted."""
        alive = [queue for queue in self._queues.values() if not (isinstance(queue, Queue) and queue.is_dead_letters)]
        consumers = [consumer for client in self.clients for consumer in client.consumers]
        return self._in_transit + sum(len(queue) for queue in alive) + sum(consumer.unsettled for consumer in consumers)

    def stop(self) -> None:
        """Stop the broker: every connection is cut and new ones are refused. Its messages are kept."""
        self.running = False
        for client in list(self.clients):
            client.cut()

    def start(self) -> None:
        """Start the broker again and restore every connection."""
        self.running = True
        for client in list(self.clients):
            client.restore()

    # --- for the transport ------------------------------------------------------------------------------------------------

    def declare(self, topology: Topology) -> None:
        for name in declarations.exchanges(topology):
            self._exchanges.setdefault(name, Exchange())
        for work in topology.queues:
            self._declare_queues(topology, work)
        for listener in topology.listeners:
            name = queue_of(topology.prefix, listener.worker)
            if name not in self._queues:
                dropped = Queue(limit=0, dead=None, single_active=False, choose=None, max_length=1)
                listener_queue = Queue(
                    limit=declarations.DEAD_LETTER_DELIVERY_LIMIT,
                    dead=dropped,
                    dead_letter_route=(retry_exchange(topology.prefix), dropped_queue(name)),
                    single_active=False,
                    choose=None,
                    max_length=listener.max_length,
                )
                self._queues |= {name: listener_queue, dropped_queue(name): dropped}
        retry = retry_exchange(topology.prefix)
        next_exchange = (retry, self._exchanges[retry].route)
        for level, level_s in enumerate(RETRY_LEVELS_S):
            self._queues.setdefault(delay_queue(topology.prefix, level), DelayQueue(level_s, next_exchange))
        for spec in declarations.queues(topology):
            for exchange, routing_key in spec.bindings:
                self._exchanges[exchange].bind(routing_key, self._queues[spec.name])
        if topology.prefix not in self._prefixes:
            self._prefixes.append(topology.prefix)
        for client in self.clients:
            client.resume()

    def _declare_queues(self, topology: Topology, work: WorkQueue) -> None:
        """Declare a work queue and its dead-letter queue. Raises DeclarationDiffers if it exists with other options."""
        name = queue_of(topology.prefix, work.worker)
        existing = self._queues.get(name)
        if isinstance(existing, Queue):
            if (existing.limit, existing.single_active) != (topology.delivery_limit, work.single_active):
                msg = f"queue {name} exists but was declared differently. Drain and delete it, or use another prefix"
                raise DeclarationDiffers(msg)
            return
        dead = Queue(limit=0, dead=None, single_active=False, choose=None)
        queue = Queue(
            limit=topology.delivery_limit,
            dead=dead,
            dead_letter_route=(retry_exchange(topology.prefix), dead_queue(name)),
            single_active=work.single_active,
            choose=self._choose,
        )
        self._queues |= {name: queue, dead_queue(name): dead}

    def check(self, topology: Topology) -> None:
        for name in declarations.exchanges(topology):
            self.exchange(name)
        for name in topology.queue_names():
            self.queue(name)

    def delete(self, topology: Topology) -> None:
        for name in topology.queue_names():
            queue = self._queues.pop(name, None)
            if queue is not None:
                queue.clear()
                for client in self.clients:
                    client.queue_deleted(queue)
        for name in declarations.exchanges(topology):
            self._exchanges.pop(name, None)
        with suppress(ValueError):
            self._prefixes.remove(topology.prefix)

    def publish(self, outgoing: Outgoing) -> Receipt:
        for hook in self.on_publish:
            hook(outgoing)
        address = outgoing.address
        exchange = self._exchanges.get(address.exchange)
        if exchange is None:
            return Receipt.UNKNOWN  # RabbitMQ closes the channel, which leaves the publish in doubt
        targets = exchange.route(address.routing_key)
        wire = outgoing.wire
        if not BROKER_HEADERS.isdisjoint(wire.headers):
            wire = replace(wire, headers={key: value for key, value in wire.headers.items() if key not in BROKER_HEADERS})
        for target in targets:
            for after_s in self._transfer_delays(outgoing) if self._transfer_delays else (0.0,):
                self._transfer(target, outgoing, wire, after_s)
        return Receipt.CONFIRMED if targets or not address.mandatory else Receipt.UNROUTABLE

    def _transfer(self, target: Target, outgoing: Outgoing, wire: Wire, after_s: float) -> None:
        if after_s <= 0:
            target.accept(wire, _route(outgoing), outgoing.delay_s)
            return
        self._in_transit += 1
        asyncio.get_running_loop().call_later(after_s, self._arrive, target, outgoing, wire)

    def _arrive(self, target: Target, outgoing: Outgoing, wire: Wire) -> None:
        self._in_transit -= 1
        target.accept(wire, _route(outgoing), outgoing.delay_s)

    def exchange(self, name: str) -> Exchange:
        exchange = self._exchanges.get(name)
        if exchange is None:
            msg = f"exchange {name} does not exist. Declare the topology first"
            raise QueueMissing(msg)
        return exchange

    def queue(self, name: str) -> Queue | DelayQueue:
        queue = self._queues.get(name)
        if queue is None:
            msg = f"queue {name} does not exist. Declare the topology first"
            raise QueueMissing(msg)
        return queue

    def unbind(self, target: Target) -> None:
        for exchange in self._exchanges.values():
            exchange.unbind(target)


def _route(outgoing: Outgoing) -> Route:
    return outgoing.address.exchange, outgoing.address.routing_key


def wires(queue: Queue | DelayQueue) -> Iterator[Wire]:
    """Return the waiting messages of a queue, oldest first."""
    return iter(queue.wires()) if isinstance(queue, DelayQueue) else (queued.wire for queued in queue.waiting)
