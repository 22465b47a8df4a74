"""Topology as data: names of exchanges and queues, addresses, and which messages must be routable.

Each mode's wiring.py builds one from what its workers accept; a transport declares it. Every name begins with the mode's prefix,
so both modes share one broker. All exchanges are topic exchanges, because RabbitMQ checks permissions on routing keys for those
only: a permission can name the commands and events that an account publishes, and the queue that its retries return to.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from broker.message import Command, Message

#: Seconds that a message waits before its next attempt. Each level has a delay queue, shared by all workers of a mode (in a queue
#: with mixed delays a short one would wait behind a long one). The last level repeats until the retry budget is exhausted.
RETRY_LEVELS_S: tuple[float, ...] = (0.1, 0.5, 2.0, 5.0)

#: How often a message may return to its queue unsettled, which bounds the restarts that a poison message causes.
#: Explicit, because RabbitMQ 3.x has no default limit and 4.x has one.
DELIVERY_LIMIT = 20


def commands_exchange(prefix: str) -> str:
    """Return the exchange of commands; the routing key is the command's type, such as `order.PlaceOrder`."""
    return f"{prefix}.commands"


def events_exchange(prefix: str) -> str:
    """Return the exchange of events; the routing key is the event's type, such as `order.OrderPlaced`."""
    return f"{prefix}.events"


def retry_exchange(prefix: str) -> str:
    """Return the exchange to dead-letter queues, and from delay queues to work queues; the routing key is the queue's name."""
    return f"{prefix}.retry"


def queue_of(prefix: str, worker: str) -> str:
    return f"{prefix}.{worker}"


def delay_queue(prefix: str, level: int) -> str:
    """Return the name of a delay queue and of its exchange; the routing key names the queue that the message returns to."""
    return f"{prefix}.delay.{level}"


def dead_queue(queue: str) -> str:
    return f"{queue}.dead"


def dropped_queue(queue: str) -> str:
    """Return the queue that holds the latest message dropped from a listener's full queue."""
    return f"{queue}.dropped"


@dataclass(frozen=True, slots=True)
class Address:
    """Destination of a publish. `mandatory`: the message must reach a queue; one that does not is returned as unroutable."""

    exchange: str
    routing_key: str
    mandatory: bool


@dataclass(frozen=True, slots=True)
class WorkQueue:
    """The queue of one worker. `takes_commands` and `listens_to`: the types of the commands and events that it is bound to, by
    name on the wire. `single_active`: one replica consumes at a time, because all write the same hot documents (stock)."""

    worker: str
    takes_commands: tuple[str, ...]
    listens_to: tuple[str, ...]
    single_active: bool = False


@dataclass(frozen=True, slots=True)
class Listener:
    """A queue that receives a copy of everything the work and dead-letter queues are sent, and every event.

    It never blocks a publisher: beyond `max_length` messages the oldest are dropped."""

    worker: str
    max_length: int


@dataclass(frozen=True, slots=True)
class Topology:
    """The exchanges and queues of one mode under one prefix.

    `delivery_limit`: how often a message may return unsettled; the next return dead-letters it."""

    prefix: str
    queues: tuple[WorkQueue, ...]
    delivery_limit: int = DELIVERY_LIMIT
    listeners: tuple[Listener, ...] = ()

    def address_of(self, message_type: type[Message]) -> Address:
        """Return the address of a message type: mandatory for a command, and for an event that some worker listens to."""
        if issubclass(message_type, Command):
            return Address(commands_exchange(self.prefix), message_type.type_name, mandatory=True)
        has_listener = any(message_type.type_name in queue.listens_to for queue in self.queues)
        return Address(events_exchange(self.prefix), message_type.type_name, mandatory=has_listener)

    def retry_address(self, worker: str, level: int) -> Address:
        """Return the address of the delay queue of `level`, from which the message returns to the worker."""
        return Address(delay_queue(self.prefix, level), queue_of(self.prefix, worker), mandatory=True)

    def allowed_routes(self, type_name: str, worker: str) -> frozenset[tuple[str, str]]:
        """Return the routes by which a message of a type may reach a worker, as (exchange, routing key).

        They are the type itself, and the name of the worker's queue for a retry."""
        taken = any(type_name in queue.takes_commands for queue in self.queues if queue.worker == worker)
        exchange = commands_exchange(self.prefix) if taken else events_exchange(self.prefix)
        return frozenset({(exchange, type_name), (retry_exchange(self.prefix), queue_of(self.prefix, worker))})

    def dead_address(self, worker: str) -> Address:
        return Address(retry_exchange(self.prefix), dead_queue(queue_of(self.prefix, worker)), mandatory=True)

    def is_retry_or_dead_letter(self, address: Address) -> bool:
        """Whether the address leads to a delay queue or a dead-letter queue."""
        return address.exchange not in (commands_exchange(self.prefix), events_exchange(self.prefix))

    def queue_names(self) -> Iterable[str]:
        """Yield the names of all queues."""
        yield from self.live_queues()
        yield from (dead_queue(queue_of(self.prefix, queue.worker)) for queue in self.queues)
        for listener in self.listeners:
            yield queue_of(self.prefix, listener.worker)
            yield dropped_queue(queue_of(self.prefix, listener.worker))

    def live_queues(self) -> Iterable[str]:
        """Yield the names of the queues whose messages still have to be handled: work queues and delay queues."""
        yield from (queue_of(self.prefix, queue.worker) for queue in self.queues)
        yield from (delay_queue(self.prefix, level) for level in range(len(RETRY_LEVELS_S)))
