"""The transport protocol: carries bytes and AMQP properties from a publisher to a queue's consumer.

Two implementations pass one contract suite: `broker.memory.transport` and `broker.rabbitmq.transport`. Messages are delivered at
least once and in any order; the loop (`broker.worker`) makes each take effect once.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol

from broker.topology import Address, Topology


@dataclass(frozen=True, slots=True)
class Wire:
    """A message as the broker sees it: AMQP properties, headers and a body. A received one is untrusted input.

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
    """A wire message and its address. `delay_s`, for a delay queue only: seconds to stay there, up to its level's delay."""

    address: Address
    wire: Wire
    delay_s: float | None = None


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message handed to a consumer, unsettled until `ack` or `requeue`. `tag` and `channel` belong to the transport.

    `exchange` and `routing_key` are what the broker routed the message by. Unlike the type in the message, they are checked
    against the sender's permissions."""

    wire: Wire
    redelivered: bool
    tag: int
    channel: object = None
    exchange: str = ""
    routing_key: str = ""


class Receipt(Enum):
    """Outcome of one publish."""

    CONFIRMED = "confirmed"  # the broker has accepted the message
    UNROUTABLE = "unroutable"  # definite: the address is mandatory, and no queue is bound to it
    UNKNOWN = "unknown"  # in doubt: the message may arrive; publish it again, the inbox drops a duplicate


class TransportError(Exception):
    """Base of transport errors."""


class TransportUnavailable(TransportError):  # noqa: N818 - names say what happened; every one is a TransportError
    """The broker cannot be reached, or did not answer in time. Wait and retry."""


class BrokerRefused(TransportUnavailable):
    """The broker is reachable and refuses the login: user name, password or virtual host."""


class UnusableUrl(TransportError):  # noqa: N818
    """The broker's URL is not valid."""


class UnsafeTopology(TransportError):  # noqa: N818
    """The broker does not have the topology as declared here. The message says what to do."""


class QueueMissing(UnsafeTopology):
    """A queue or exchange does not exist."""


class DeclarationDiffers(UnsafeTopology):
    """A queue or exchange exists with other options than declared here."""


class NotPermitted(UnsafeTopology):
    """The account lacks a permission on the broker."""


Sink = Callable[[Delivery], None]


class Transport(Protocol):
    """One client of the broker. It reconnects by itself and restores its consumers."""

    async def open(self) -> None:
        """Connect. Raises TransportUnavailable if that does not succeed in time."""

    async def close(self) -> None:
        """Disconnect; unsettled deliveries return to their queue."""

    async def declare(self, topology: Topology) -> None:
        """Create exchanges, queues and bindings; idempotent. Raises UnsafeTopology if one exists with other options."""

    async def check(self, topology: Topology) -> None:
        """Check that every exchange and queue exists, for a client that may not declare. Needs no permission, changes nothing.

        Raises QueueMissing. Checks neither bindings nor options: RabbitMQ compares options only when a client declares."""

    async def consume(self, queue: str, prefetch: int, sink: Sink) -> None:
        """Start handing deliveries of `queue` to `sink`, in order, at most `prefetch` unsettled at once.

        After a lost connection consuming resumes, and unsettled messages are delivered again with `redelivered` set."""

    async def cancel(self) -> None:
        """Stop consuming. Deliveries already handed over may still be settled."""

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        """Settle deliveries. Every delivery handed over before the last of them must be settled already or be among them.

        Never raises for a lost channel: the broker delivers again, and the inbox drops the duplicate."""

    async def requeue(self, deliveries: Sequence[Delivery]) -> None:
        """Return deliveries to their queue (AMQP's reject, which counts towards the delivery limit)."""

    async def publish(self, outgoing: Sequence[Outgoing]) -> list[Receipt]:
        """Publish all, await the confirms together and return one receipt each, in order. Never raises for a lost connection."""

    async def subscribe(self, topology: Topology, patterns: Sequence[str], sink: Callable[[Wire], None]) -> None:
        """Pass events whose routing key matches one of the topic `patterns` to `sink`, from a private queue.

        The queue is deleted with the connection, so events during an outage are missed: for tools (storm, demo,
        `order place --wait`), not for workers."""

    async def purge(self, topology: Topology) -> None:
        """Empty every queue of the topology, delay queues and dead-letter queues included."""

    async def delete(self, topology: Topology) -> None:
        """Delete every queue and exchange of the topology with their messages; idempotent.

        This client stops consuming them. Other clients resume consuming when a queue is declared again."""

    async def depth(self, queue: str) -> int:
        """Return how many messages wait in `queue`; unsettled deliveries are not counted."""

    async def get(self, queue: str, limit: int) -> list[Wire]:
        """Return up to `limit` messages of `queue`, such as dead letters, and leave them in the queue."""


async def declare_or_check(transport: Transport, topology: Topology) -> None:
    """Declare `topology`; if the account may not, check that every exchange and queue exists. Bindings are then not checked.

    Raises NotPermitted if something is missing that the account may not declare, and what `declare` raises."""
    try:
        await transport.declare(topology)
    except NotPermitted as refused:
        try:
            await transport.check(topology)
        except QueueMissing as missing:
            raise refused from missing
