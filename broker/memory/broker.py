"""The state of the in-memory broker, shared by its clients: exchanges, queues and bindings by name.

What a test, the demo or a simulation asks of a broker is here too: its dead letters, what is unfinished, every
message as it flows, and an outage.
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

#: Given a message that is on its way to a queue or a listener: after how many seconds it arrives there, once for each copy.
TransferDelays = Callable[[Outgoing], Sequence[float]]


class Client(Protocol):
    """What the broker asks of its clients."""

    @property
    def consumers(self) -> list[Consumer]:
        """Those that have or may get deliveries."""

    def cut(self) -> None:
        """The connection is lost."""

    def restore(self) -> None:
        """The connection is back."""

    def resume(self) -> None:
        """There may be something to consume that was not there before."""

    def queue_deleted(self, queue: Queue | DelayQueue) -> None:
        """A queue was deleted."""


class MemoryBroker:
    """Exchanges, queues and bindings, shared by any number of `MemoryTransport`s on one event loop.

    `choose` says which of the waiting messages of a queue goes next; without it, the oldest. `transfer_delays` says when a message, and
    each copy of it, arrives; without it, once and at once. Functions in `on_publish` see every message that reaches the broker,
    commands and retries included."""

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
        """The dead letters of a worker, oldest first, under every prefix declared here."""
        queues = (self._queues.get(dead_queue(queue_of(prefix, worker))) for prefix in self._prefixes)
        return [wire for queue in queues if queue is not None for wire in wires(queue)]

    def unfinished(self) -> int:
        """How many messages somebody still has to handle: on their way, waiting or unsettled; dead letters not counted."""
        alive = [queue for queue in self._queues.values() if not (isinstance(queue, Queue) and queue.is_dead_letters)]
        consumers = [consumer for client in self.clients for consumer in client.consumers]
        return self._in_transit + sum(len(queue) for queue in alive) + sum(consumer.unsettled for consumer in consumers)

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
        """A work queue with its dead letters. Raises DeclarationDiffers if it is there with other options."""
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
            return Receipt.UNKNOWN  # as RabbitMQ does it: the channel is closed, and nobody knows
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
    """What waits in a queue, oldest first."""
    return iter(queue.wires()) if isinstance(queue, DelayQueue) else (queued.wire for queued in queue.waiting)
