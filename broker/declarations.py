"""Exchanges, queues with their arguments, and bindings of a topology, as data: this module declares nothing.

Every queue is a durable quorum queue. All of it means the same to RabbitMQ 3.10 and 4.x; no default is relied on, because their
defaults differ (delivery limit, queue type, dead-lettering at most once).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from broker.topology import (
    RETRY_LEVELS_S,
    Topology,
    WorkQueue,
    commands_exchange,
    dead_queue,
    delay_queue,
    dropped_queue,
    events_exchange,
    queue_of,
    retry_exchange,
)

#: How often a dead letter may be read and requeued: each read counts as a delivery that came back.
#: Explicit, because the default of 4.x would drop it after 20 reads.
DEAD_LETTER_DELIVERY_LIMIT = 1_000_000


@dataclass(frozen=True, slots=True)
class QueueSpec:
    """A queue to declare: its name, its optional arguments and its bindings as (exchange, routing key)."""

    name: str
    arguments: Mapping[str, Any]
    bindings: tuple[tuple[str, str], ...]


def exchanges(topology: Topology) -> dict[str, str]:
    """Return exchange name -> exchange type. All are durable. Only delay queues and listeners bind the wildcard `#`."""
    prefix = topology.prefix
    names = [commands_exchange(prefix), events_exchange(prefix), retry_exchange(prefix)]
    names += [delay_queue(prefix, level) for level in range(len(RETRY_LEVELS_S))]
    return dict.fromkeys(names, "topic")


def queues(topology: Topology) -> Iterator[QueueSpec]:
    """Yield each work queue with its dead-letter queue, then the shared delay queues, then the listeners' queues."""
    retry = retry_exchange(topology.prefix)
    for work in topology.queues:
        name = queue_of(topology.prefix, work.worker)
        yield QueueSpec(name, _work_arguments(topology, work), tuple(_work_bindings(topology.prefix, work)))
        dead = dead_queue(name)
        yield QueueSpec(dead, {"x-queue-type": "quorum", "x-delivery-limit": DEAD_LETTER_DELIVERY_LIMIT}, ((retry, dead),))
    for level, level_s in enumerate(RETRY_LEVELS_S):
        delay = delay_queue(topology.prefix, level)
        yield QueueSpec(delay, _delay_arguments(retry, level_s), ((delay, "#"),))
    for listener in topology.listeners:
        name = queue_of(topology.prefix, listener.worker)
        dropped = dropped_queue(name)
        arguments = {**_dropping(listener.max_length), "x-dead-letter-exchange": retry, "x-dead-letter-routing-key": dropped}
        yield QueueSpec(name, arguments, tuple(_listener_bindings(topology)))
        yield QueueSpec(dropped, _dropping(1), ((retry, dropped),))


def _work_bindings(prefix: str, work: WorkQueue) -> Iterator[tuple[str, str]]:
    yield retry_exchange(prefix), queue_of(prefix, work.worker)  # back from a delay queue
    for command in work.takes_commands:
        yield commands_exchange(prefix), command
    for event in work.listens_to:
        yield events_exchange(prefix), event


def _listener_bindings(topology: Topology) -> Iterator[tuple[str, str]]:
    """Yield the bindings of every work queue and dead-letter queue, and one for all events."""
    events = events_exchange(topology.prefix)
    yield events, "#"
    for work in topology.queues:
        yield from (binding for binding in _work_bindings(topology.prefix, work) if binding[0] != events)
        yield retry_exchange(topology.prefix), dead_queue(queue_of(topology.prefix, work.worker))


def _dropping(max_length: int) -> dict[str, Any]:
    """Arguments of a queue that never rejects a publish: beyond `max_length` messages the oldest are dropped."""
    return {
        "x-queue-type": "quorum",
        "x-max-length": max_length,
        "x-overflow": "drop-head",
        "x-delivery-limit": DEAD_LETTER_DELIVERY_LIMIT,
    }


def _work_arguments(topology: Topology, work: WorkQueue) -> dict[str, Any]:
    dead = dead_queue(queue_of(topology.prefix, work.worker))
    arguments = _dead_lettering(retry_exchange(topology.prefix)) | {"x-dead-letter-routing-key": dead}
    arguments |= {"x-delivery-limit": topology.delivery_limit}
    return arguments | ({"x-single-active-consumer": True} if work.single_active else {})


def _delay_arguments(retry: str, level_s: float) -> dict[str, Any]:
    """Arguments of a delay queue. It has no consumer: its messages expire to the work queue that their routing key names."""
    return _dead_lettering(retry) | {"x-message-ttl": round(level_s * 1000)}


def _dead_lettering(exchange: str) -> dict[str, Any]:
    """Arguments for at-least-once dead-lettering to `exchange`, which requires a quorum queue with overflow reject-publish."""
    return {
        "x-queue-type": "quorum",
        "x-dead-letter-exchange": exchange,
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
    }
