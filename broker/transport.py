"""The transport protocol: carries bytes with their envelope from a publisher to a queue's consumer.

Two implementations pass one contract suite: `broker.memory.transport` and `broker.rabbitmq.transport`. Delivery is at least
once and in any order; the loop (`broker.worker`) makes the effect happen once.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol

from broker.topology import Address, Topology


@dataclass(frozen=True, slots=True)
class Wire:
    """A message as the broker sees it: AMQP properties, headers and a body. On arrival nothing in it is to be trusted.

    `timestamp` is in whole seconds since the epoch, as AMQP has it."""

    body: bytes
    message_id: str | None = None
    correlation_id: str | None = None
    type: str | None = None
    timestamp: int | None = None
    app_id: str | None = None
    content_type: str | None = None
    content_encoding: str | None = None
    headers: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A wire message and where it goes. `delay_s` is for addresses that are delay queues only: how long to stay there."""

    address: Address
    wire: Wire
    delay_s: float | None = None


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message handed to a consumer, unsettled until `ack` or `requeue`. `tag` and `channel` belong to the transport.

    `exchange` and `routing_key`: what the broker routed it by, and let its sender use. They tell more than what the message says
    of itself."""

    wire: Wire
    redelivered: bool
    tag: int
    channel: object = None
    exchange: str = ""
    routing_key: str = ""


class Receipt(Enum):
    """What is known of one publish."""

    CONFIRMED = "confirmed"  # the broker has it safely
    UNROUTABLE = "unroutable"  # definite: no queue was bound and the address said that one must be
    UNKNOWN = "unknown"  # in doubt: it may arrive; send it again, the inbox drops the twin


class TransportError(Exception):
    """The transport could not do it; the subclass says more."""


class TransportUnavailable(TransportError):  # noqa: N818 - names say what happened; every one is a TransportError
    """The broker cannot be reached (or did not answer in time). Wait and retry."""


class BrokerRefused(TransportUnavailable):
    """The broker is there, and does not let this user in: the name, the password or the virtual host."""


class UnusableUrl(TransportError):  # noqa: N818
    """The broker's URL makes no sense."""


class UnsafeTopology(TransportError):  # noqa: N818
    """A queue or exchange is missing or was declared differently. Its message says what to do."""


class QueueMissing(UnsafeTopology):
    """A queue or exchange is not there."""


class DeclarationDiffers(UnsafeTopology):
    """A queue or exchange is there and was declared differently."""


class NotPermitted(UnsafeTopology):
    """This user may not do that on the broker."""


Sink = Callable[[Delivery], None]


class Transport(Protocol):
    """One client's connection to the broker. It reconnects by itself and restores its consumers."""

    async def open(self) -> None:
        """Connect. Raises TransportUnavailable when that does not succeed in time."""

    async def close(self) -> None:
        """Disconnect; what was delivered and not settled goes back to its queue."""

    async def declare(self, topology: Topology) -> None:
        """Create exchanges, queues and bindings; harmless when they exist alike. Raises UnsafeTopology when they differ."""

    async def check(self, topology: Topology) -> None:
        """Whether every exchange and queue is there, for a client that may not declare; needs no permission, changes nothing.

        Raises QueueMissing. Sees neither bindings nor what was declared differently: only a declaration compares."""

    async def consume(self, queue: str, prefetch: int, sink: Sink) -> None:
        """Start handing deliveries of `queue` to `sink`, in order, at most `prefetch` unsettled at once.

        After a lost connection consuming resumes, and what was unsettled comes again with `redelivered` set."""

    async def cancel(self) -> None:
        """Stop handing over deliveries. Those handed over may still be settled."""

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        """Settle deliveries, the oldest first: everything handed over before the last of them is settled already or among them.

        Never raises for a lost channel: the broker will deliver again, and the inbox knows."""

    async def requeue(self, deliveries: Sequence[Delivery]) -> None:
        """Give deliveries back to their queue (AMQP's reject: it counts towards the delivery limit)."""

    async def publish(self, outgoing: Sequence[Outgoing]) -> list[Receipt]:
        """Publish all, wait for all confirms together; one receipt each, in order. Never raises for a lost connection."""

    async def subscribe(self, topology: Topology, patterns: Sequence[str], sink: Callable[[Wire], None]) -> None:
        """Hear events whose routing key matches one of the topic `patterns`, on a private queue that dies with the connection.

        For instruments (storm, demo, `order place --wait`), which may miss what happened while they were away."""

    async def purge(self, topology: Topology) -> None:
        """Empty every queue of the topology, delay queues and dead letters included."""

    async def delete(self, topology: Topology) -> None:
        """Remove every queue and exchange of the topology with all that is in them; harmless when they are not there.

        This client stops consuming them. Another one that did comes back when the queue does."""

    async def depth(self, queue: str) -> int:
        """How many messages wait in `queue`, those being handled not counted."""

    async def get(self, queue: str, limit: int) -> list[Wire]:
        """Look at up to `limit` messages of `queue` (dead letters, say) and leave them there."""


async def declare_or_check(transport: Transport, topology: Topology) -> None:
    """Declare `topology`, or, if this user may not, see that everything is there already; that the bindings are, too, is then up
    to whoever declared it. Raises NotPermitted when something has to be declared, and what `declare` raises."""
    try:
        await transport.declare(topology)
    except NotPermitted as refused:
        try:
            await transport.check(topology)
        except QueueMissing as missing:
            raise refused from missing
