"""Republishes messages that could not be handled: to a delay queue for another attempt, or to the dead-letter queue.

A republished copy counts its attempts in a header (the broker's own counter differs from version to version), and is confirmed
before the original is acknowledged.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from broker.codec import DeadReason
from broker.environment import Environment
from broker.handler import ProtocolViolation
from broker.loop.batch import Job
from broker.topology import RETRY_LEVELS_S, Topology
from broker.transport import Delivery, Outgoing, Receipt, Transport, Wire

log = structlog.get_logger()

#: Attempts of a forward step before it is dead-lettered; the order's deadline then compensates the order.
FORWARD_ATTEMPTS = 5
#: Attempts of a compensation or of a step after the pivot: more, because these steps must not fail.
COMPENSATION_ATTEMPTS = 12
#: Maximum time spent on the retries of one message, in seconds: the sum of the delays of the larger budget.
RETRY_TOTAL_S = sum(RETRY_LEVELS_S[min(attempt, len(RETRY_LEVELS_S) - 1)] for attempt in range(COMPENSATION_ATTEMPTS - 1))
#: Delay level of the fault `late`.
LATE_FAULT_LEVEL = 2

#: A delivery and a copy that must be confirmed before the delivery is acknowledged. A delivery may have several.
Republished = tuple[Delivery, Outgoing]


@dataclass(frozen=True, slots=True)
class Republisher:
    """Republishes deliveries of one worker to delay queues and the dead-letter queue."""

    transport: Transport
    topology: Topology
    worker: str
    environment: Environment

    async def republish(self, republished: Sequence[Republished], batch: Sequence[Delivery]) -> list[Delivery]:
        """Publish the copies and await their confirms; requeue a delivery whose copy is not confirmed.

        Its duplicates in the `batch` are requeued too: the broker may have no other copy left. Return the requeued deliveries.
        They are settled; RabbitMQ closes a channel that acknowledges one again."""
        if not republished:
            return []
        receipts = await self.transport.publish([copy for _, copy in republished])
        unconfirmed = [
            delivery for (delivery, _), receipt in zip(republished, receipts, strict=True) if receipt is not Receipt.CONFIRMED
        ]
        message_ids = {delivery.wire.message_id for delivery in unconfirmed if delivery.wire.message_id}
        requeued = [delivery for delivery in batch if delivery in unconfirmed or delivery.wire.message_id in message_ids]
        if requeued:
            log.warning("republish_not_confirmed", service=self.worker, count=len(requeued))
            await self.transport.requeue(requeued)
        return requeued

    def failure_copy(self, job: Job, error: Exception) -> Outgoing:
        """Return the copy of a message whose handler raised: a retry, or a dead letter once the budget is exhausted."""
        assert job.delivery is not None  # noqa: S101 - a local input is not republished
        attempt = job.envelope.attempt
        text = f"{type(error).__name__}: {error}"[:500]
        if isinstance(error, ProtocolViolation):
            return self.dead_letter_copy(job.delivery, DeadReason.PROTOCOL_VIOLATION, text, attempt)
        if attempt >= (FORWARD_ATTEMPTS if job.is_forward else COMPENSATION_ATTEMPTS):
            return self.dead_letter_copy(job.delivery, DeadReason.ATTEMPTS_EXHAUSTED, text, attempt)
        level = min(attempt - 1, len(RETRY_LEVELS_S) - 1)
        return self.delayed_copy(job.delivery, level, attempt + 1, jitter=True)

    def delayed_copy(self, delivery: Delivery, level: int, attempt: int, *, jitter: bool) -> Outgoing:
        """Return a copy for the delay queue of `level`, marked as attempt number `attempt`."""
        delay_s = RETRY_LEVELS_S[level] * (self.environment.rng.uniform(0.5, 1.0) if jitter else 1.0)
        order_id = delivery.wire.correlation_id
        log.info("retry_scheduled", service=self.worker, order_id=order_id, delay_s=round(delay_s, 3), attempt=attempt)
        return Outgoing(self.topology.retry_address(self.worker, level), _with(delivery, {"attempt": attempt}), delay_s)

    def dead_letter_copy(self, delivery: Delivery, reason: DeadReason, detail: str, attempts: int = 1) -> Outgoing:
        """Return a copy for the dead-letter queue, with the reason, the last error and the number of attempts."""
        wire = delivery.wire
        about = {"order_id": wire.correlation_id, "message_id": wire.message_id, "type": wire.type}
        log.warning("message_dead_lettered", service=self.worker, reason=str(reason), detail=detail, **about)
        headers = {
            "dead_reason": str(reason),
            "dead_detail": detail,
            "attempts": attempts,
            "died_at": int(self.environment.now()),
        }
        return Outgoing(self.topology.dead_address(self.worker), _with(delivery, headers))


def _with(delivery: Delivery, headers: Mapping[str, Any]) -> Wire:
    return dataclasses.replace(delivery.wire, headers={**delivery.wire.headers, **headers})
