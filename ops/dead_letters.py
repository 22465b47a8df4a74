"""Lists, requeues and discards the dead letters of a mode.

Requeueing is safe at any moment: a message leaves the dead-letter queue only after the broker has confirmed the copy that was
sent back to its worker. After a crash in between both exist, and the inbox drops the duplicate.
"""

import asyncio
import dataclasses
import hashlib
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from api.orders import api_topology
from broker.codec import DeadReason, death_of, misrouted
from broker.message import UUID_PATTERN
from broker.topology import Topology, dead_queue, queue_of
from broker.transport import Delivery, Outgoing, QueueMissing, Receipt, Transport, Wire

#: Messages read from one dead-letter queue at most.
MAX_LETTERS = 10_000
#: Seconds to wait for the next message of a queue.
RECEIVE_TIMEOUT_S = 2.0
#: Headers that a requeued copy does not keep: the reason, the attempts, and the injected fault, which shall not act again.
STRIPPED_HEADERS = ("dead_reason", "dead_detail", "attempts", "died_at", "attempt", "injected")


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One message in a worker's dead-letter queue."""

    worker: str
    wire: Wire
    #: Why its route is not allowed for its type, if the broker dead-lettered it before a worker checked.
    routing_error: str | None = None

    @property
    def id(self) -> str:
        """Its message id; without a valid one, an id derived from its content."""
        if self.wire.message_id and re.fullmatch(UUID_PATTERN, self.wire.message_id):
            return self.wire.message_id
        return "content-" + hashlib.sha256(self.wire.body + repr(self.wire.type).encode()).hexdigest()[:16]

    @property
    def order_id(self) -> str | None:
        return self.wire.correlation_id

    @property
    def reason(self) -> str:
        """The worker's reason code, or the broker's own reason when the broker dead-lettered the message."""
        if self.routing_error:
            return DeadReason.MISROUTED
        death = death_of(self.wire)
        return str((self.wire.headers.get("dead_reason") if death is None else death.get("reason")) or "unknown")

    def as_dict(self) -> dict[str, Any]:
        headers = self.wire.headers
        return {
            "id": self.id,
            "worker": self.worker,
            "type": self.wire.type,
            "order_id": self.order_id,
            "reason": self.reason,
            "detail": self.routing_error or _text(headers.get("dead_detail")),
            "attempts": headers.get("attempts"),
            "died_at": headers.get("died_at"),
        }


def _dead_letter(topology: Topology, worker: str, wire: Wire) -> DeadLetter:
    """A message that the broker itself dead-lettered was checked by no worker: its route is checked here, by `x-death`."""
    death = death_of(wire)
    if death is None:
        return DeadLetter(worker, wire)
    keys = death.get("routing-keys")
    route = str(death.get("exchange")), str(keys[0]) if isinstance(keys, list) and keys else ""
    allowed = route in topology.allowed_routes(wire.type or "", worker)
    return DeadLetter(worker, wire, None if allowed else str(misrouted(wire, *route)))


def _text(value: object) -> str | None:
    return None if value is None else str(value)


DeadLetterFilter = Callable[[DeadLetter], bool]


def with_api(topology: Topology) -> Topology:
    """The topology of a mode and its HTTP API. The API's queues may be missing: then it has no dead letters."""
    return dataclasses.replace(topology, queues=(*topology.queues, *api_topology(topology.prefix).queues))


async def dead_letters(transport: Transport, topology: Topology, workers: Sequence[str]) -> list[DeadLetter]:
    """All dead letters of `workers`, oldest first in each queue. They stay in their queues. Raises TransportError."""
    found = []
    for worker in workers:
        with suppress(QueueMissing):
            wires = await transport.get(dead_queue(queue_of(topology.prefix, worker)), MAX_LETTERS)
            found += [_dead_letter(topology, worker, wire) for wire in wires]
    return found


async def requeue(transport: Transport, topology: Topology, worker: str, selected: DeadLetterFilter) -> list[DeadLetter]:
    """Send the selected dead letters of a worker back to it with a fresh retry budget. Returns those sent.

    Misrouted ones stay: a worker trusts the type of a message that returns by its retry route. `transport` must not be shared,
    because it consumes the queue. Raises TransportError."""

    def retry_copy(letter: DeadLetter) -> Outgoing:
        headers = {name: value for name, value in letter.wire.headers.items() if name not in STRIPPED_HEADERS}
        return Outgoing(topology.retry_address(worker, 0), dataclasses.replace(letter.wire, headers=headers), 0.01)

    return await _remove(
        transport, topology, worker, lambda letter: selected(letter) and letter.reason != DeadReason.MISROUTED, retry_copy
    )


async def discard(transport: Transport, topology: Topology, worker: str, selected: DeadLetterFilter) -> list[DeadLetter]:
    """Delete the selected dead letters of a worker. Returns them. `transport` must not be shared. Raises TransportError."""
    return await _remove(transport, topology, worker, selected, None)


async def _remove(
    transport: Transport,
    topology: Topology,
    worker: str,
    selected: DeadLetterFilter,
    make_copy: Callable[[DeadLetter], Outgoing] | None,
) -> list[DeadLetter]:
    deliveries = await _receive_all(transport, dead_queue(queue_of(topology.prefix, worker)))
    letters = [(delivery, _dead_letter(topology, worker, delivery.wire)) for delivery in deliveries]
    matching = [(delivery, letter) for delivery, letter in letters if selected(letter)]
    receipts = [Receipt.CONFIRMED] * len(matching)
    if make_copy:
        receipts = await transport.publish([make_copy(letter) for _, letter in matching])
    confirmed = [pair for pair, receipt in zip(matching, receipts, strict=True) if receipt is Receipt.CONFIRMED]
    confirmed_ids = {id(delivery) for delivery, _ in confirmed}
    # Requeue the rest first: an acknowledgement settles every delivery before it.
    await transport.requeue([delivery for delivery in deliveries if id(delivery) not in confirmed_ids])
    await transport.ack([delivery for delivery, _ in confirmed])
    return [letter for _, letter in confirmed]


async def _receive_all(transport: Transport, queue: str) -> list[Delivery]:
    """Every message that is in `queue` now, in order, unacknowledged. Empty when the queue does not exist."""
    try:
        depth = min(await transport.depth(queue), MAX_LETTERS)
    except QueueMissing:
        return []
    deliveries: list[Delivery] = []
    received = asyncio.Event()

    def on_delivery(delivery: Delivery) -> None:
        deliveries.append(delivery)
        received.set()

    if not depth:
        return []
    await transport.consume(queue, depth, on_delivery)
    with suppress(TimeoutError):  # another consumer may have taken some
        while len(deliveries) < depth:
            received.clear()
            async with asyncio.timeout(RECEIVE_TIMEOUT_S):
                await received.wait()
    await transport.cancel()
    return deliveries
