"""The dead letters of a mode: what is there and why, sent back to its worker, or thrown away.

Taking one is safe at any moment: it leaves its queue only after the broker has confirmed the copy that goes back to
work. A crash in between leaves it twice, and the inbox drops the twin.
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

#: Looked at in one queue at most. Whoever has more has another problem than reading them.
MAX_LETTERS = 10_000
#: How long a queue may keep us waiting for the next of its messages.
RECEIVE_TIMEOUT_S = 2.0
#: Headers that belong to being dead, or to the attempts before. A failure that was injected is not injected again.
STRIPPED_HEADERS = ("dead_reason", "dead_detail", "attempts", "died_at", "attempt", "injected")


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One message that a worker's mode has given up."""

    worker: str
    wire: Wire
    #: Why nobody may take it for what it says it is, if no worker has judged that.
    routing_error: str | None = None

    @property
    def id(self) -> str:
        """Its message id; for one that has none, a name made from its content."""
        if self.wire.message_id and re.fullmatch(UUID_PATTERN, self.wire.message_id):
            return self.wire.message_id
        return "content-" + hashlib.sha256(self.wire.body + repr(self.wire.type).encode()).hexdigest()[:16]

    @property
    def order_id(self) -> str | None:
        return self.wire.correlation_id

    @property
    def reason(self) -> str:
        """Our reason code, or the broker's own word when it gave the message up."""
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
    """What the broker itself gave up was judged by no worker: its way stands in the broker's history of it."""
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
    """The furniture of a mode and of its HTTP door, which may never have been opened: then it has no dead letters."""
    return dataclasses.replace(topology, queues=(*topology.queues, *api_topology(topology.prefix).queues))


async def dead_letters(transport: Transport, topology: Topology, workers: Sequence[str]) -> list[DeadLetter]:
    """All dead letters of `workers`, oldest first in each queue; they stay where they are."""
    found = []
    for worker in workers:
        with suppress(QueueMissing):
            wires = await transport.get(dead_queue(queue_of(topology.prefix, worker)), MAX_LETTERS)
            found += [_dead_letter(topology, worker, wire) for wire in wires]
    return found


async def requeue(transport: Transport, topology: Topology, worker: str, selected: DeadLetterFilter) -> list[DeadLetter]:
    """Send the chosen dead letters of a worker back to it, with a fresh budget; gives those sent. Misrouted ones stay: what comes
    back is taken for what it says it is, and that is just what nobody may believe of them.

    `transport` must be for this alone: it consumes. Raises TransportError."""

    def retry_copy(letter: DeadLetter) -> Outgoing:
        headers = {name: value for name, value in letter.wire.headers.items() if name not in STRIPPED_HEADERS}
        return Outgoing(topology.retry_address(worker, 0), dataclasses.replace(letter.wire, headers=headers), 0.01)

    return await _remove(
        transport, topology, worker, lambda letter: selected(letter) and letter.reason != DeadReason.MISROUTED, retry_copy
    )


async def discard(transport: Transport, topology: Topology, worker: str, selected: DeadLetterFilter) -> list[DeadLetter]:
    """Throw the chosen dead letters of a worker away; gives them."""
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
    # First what stays, then what goes: an acknowledgement settles everything before it.
    await transport.requeue([delivery for delivery in deliveries if id(delivery) not in confirmed_ids])
    await transport.ack([delivery for delivery, _ in confirmed])
    return [letter for _, letter in confirmed]


async def _receive_all(transport: Transport, queue: str) -> list[Delivery]:
    """Everything that waits in `queue` now, unsettled, in order."""
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
    with suppress(TimeoutError):  # somebody else may have taken some meanwhile
        while len(deliveries) < depth:
            received.clear()
            async with asyncio.timeout(RECEIVE_TIMEOUT_S):
                await received.wait()
    await transport.cancel()
    return deliveries
