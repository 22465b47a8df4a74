"""The broker's furniture as data: names are pure functions, a topology is a value, and what must have a reader follows from it.

Built by each mode's wiring.py from what its workers accept, declared by a transport. Every name begins with the
mode's prefix, so both modes live side by side on one broker. All exchanges are topic exchanges, because RabbitMQ's permissions
look at the routing key there and nowhere else: they can say who may send which command, which event, and aside to whose queue.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from broker.message import Command, Message

#: Seconds a message waits before its next attempt, one delay queue for each level, shared by all workers of a mode (a queue with
#: mixed times would make a short wait stand behind a long one). The last level repeats until the budget is used up.
RETRY_LEVELS_S: tuple[float, ...] = (0.1, 0.5, 2.0, 5.0)

#: How often one message may come back to its queue unsettled, so that a message that kills its worker cannot do so for ever.
#: Explicit, because RabbitMQ 3.x has no limit and 4.x has another.
DELIVERY_LIMIT = 20


def commands_exchange(prefix: str) -> str:
    """The routing key is the command's type, such as `order.PlaceOrder`."""
    return f"{prefix}.commands"


def events_exchange(prefix: str) -> str:
    """The routing key is the event's type, such as `order.OrderPlaced`."""
    return f"{prefix}.events"


def retry_exchange(prefix: str) -> str:
    """Leads to dead letters, and from the delay queues back to work: the routing key is the queue's name."""
    return f"{prefix}.aside"


def queue_of(prefix: str, worker: str) -> str:
    return f"{prefix}.{worker}"


def delay_queue(prefix: str, level: int) -> str:
    """A delay queue, and the exchange before it: the routing key says where a message goes when its time has come."""
    return f"{prefix}.later.{level}"


def dead_queue(queue: str) -> str:
    return f"{queue}.dead"


def dropped_queue(queue: str) -> str:
    """Holds the newest message that a listener's queue had no more room for."""
    return f"{queue}.dropped"


@dataclass(frozen=True, slots=True)
class Address:
    """Where a message is published. `mandatory`: it must reach a queue, a return is a fault."""

    exchange: str
    routing_key: str
    mandatory: bool


@dataclass(frozen=True, slots=True)
class WorkQueue:
    """One worker's queue. `takes_commands` and `listens_to`: the types of the commands and events that come to it, by
    name on the wire. `single_active`: replicas take turns, because they would write the same hot documents (stock)."""

    worker: str
    takes_commands: tuple[str, ...]
    listens_to: tuple[str, ...]
    single_active: bool = False


@dataclass(frozen=True, slots=True)
class Listener:
    """One that hears everything the work queues are sent, and every event, and holds nobody up: when `max_length` messages wait for it,
    the oldest of them are dropped."""

    worker: str
    max_length: int


@dataclass(frozen=True, slots=True)
class Topology:
    """All furniture of one mode under one prefix.

    `delivery_limit`: how often a message may come back unsettled; once more and it is a dead letter."""

    prefix: str
    queues: tuple[WorkQueue, ...]
    delivery_limit: int = DELIVERY_LIMIT
    listeners: tuple[Listener, ...] = ()

    def address_of(self, message_type: type[Message]) -> Address:
        """A command must arrive; an event must arrive if some worker listens to it."""
        if issubclass(message_type, Command):
            return Address(commands_exchange(self.prefix), message_type.type_name, mandatory=True)
        has_listener = any(message_type.type_name in queue.listens_to for queue in self.queues)
        return Address(events_exchange(self.prefix), message_type.type_name, mandatory=has_listener)

    def retry_address(self, worker: str, level: int) -> Address:
        """Into the delay queue of `level`, and from there back to the worker."""
        return Address(delay_queue(self.prefix, level), queue_of(self.prefix, worker), mandatory=True)

    def allowed_routes(self, type_name: str, worker: str) -> frozenset[tuple[str, str]]:
        """What a message of that type may come to a worker by, as (exchange, routing key): its type, or back from aside by the
        name of its queue."""
        taken = any(type_name in queue.takes_commands for queue in self.queues if queue.worker == worker)
        exchange = commands_exchange(self.prefix) if taken else events_exchange(self.prefix)
        return frozenset({(exchange, type_name), (retry_exchange(self.prefix), queue_of(self.prefix, worker))})

    def dead_address(self, worker: str) -> Address:
        return Address(retry_exchange(self.prefix), dead_queue(queue_of(self.prefix, worker)), mandatory=True)

    def is_retry_or_dead_letter(self, address: Address) -> bool:
        """Whether it leads to a delay queue or the dead letters."""
        return address.exchange not in (commands_exchange(self.prefix), events_exchange(self.prefix))

    def queue_names(self) -> Iterable[str]:
        """Every queue, dead letters included."""
        yield from self.live_queues()
        yield from (dead_queue(queue_of(self.prefix, queue.worker)) for queue in self.queues)
        for listener in self.listeners:
            yield queue_of(self.prefix, listener.worker)
            yield dropped_queue(queue_of(self.prefix, listener.worker))

    def live_queues(self) -> Iterable[str]:
        """Every queue whose messages somebody still has to handle: work queues and delay queues."""
        yield from (queue_of(self.prefix, queue.worker) for queue in self.queues)
        yield from (delay_queue(self.prefix, level) for level in range(len(RETRY_LEVELS_S)))
