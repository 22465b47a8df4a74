"""Makes the injected failures of a message act: the worker's part of `--fail`. Only a worker with faults enabled has one.

Every failure that acts is noted in the service's own database, once an order, so that a storm can hold what it
injected against what was observed.
"""

import asyncio
import os
import signal
from collections.abc import Callable, Sequence

import structlog

from broker.faults import MessageFault, injected_at
from broker.loop.batch import BatchPlan, Job
from broker.loop.retry import LATE_FAULT_LEVEL, Republisher
from broker.role import Service
from broker.transport import Delivery, Outgoing
from store.document import Record
from store.protocol import DataRefused, Store, StoreError

log = structlog.get_logger()

#: Where the notes are kept, keyed by `order:service:failure`.
INJECTED_COLLECTION = "injected"


def crash() -> None:
    """What `crash` does: this process is killed, with no chance to tidy up."""
    os.kill(os.getpid(), signal.SIGKILL)


class FaultInjector:
    """The failures asked for at one worker."""

    def __init__(
        self, service: Service, store: Store, republisher: Republisher, *, slow_s: float, crash: Callable[[], None] = crash
    ) -> None:
        self._service = service
        self._store = store
        self._republisher = republisher
        self._slow_s = slow_s
        self._crash = crash
        #: The failures that act here and are noted here.
        self._recorded_faults = (
            frozenset(MessageFault) - service.faults if service.external_faults else service.faults | set(MessageFault)
        )

    async def apply(self, jobs: Sequence[Job]) -> tuple[list[Job], list[tuple[Delivery, Outgoing]]]:
        """Let the failures of these jobs act. Gives the jobs to go on with, and copies of those held back."""
        affected = [job for job in jobs if job.injected and job.delivery and self._applies_to(job)]
        await self._record_faults(affected)
        if any(self._has_fault(job, MessageFault.CRASH) and not job.delivery.redelivered for job in affected if job.delivery):
            self._crash()
        if any(self._has_fault(job, MessageFault.SLOW) for job in affected):
            await asyncio.sleep(self._slow_s)
        delayed = [job for job in affected if self._has_fault(job, MessageFault.LATE) and job.envelope.attempt == 1]
        republished = [
            (job.delivery, self._republisher.delayed_copy(job.delivery, LATE_FAULT_LEVEL, 2, jitter=False))
            for job in delayed
            if job.delivery
        ]
        return [job for job in jobs if job not in delayed], republished

    def duplicates(self, plan: BatchPlan) -> list[Outgoing]:
        """What `duplicate` sends a second time: everything this service publishes for the order."""
        orders = {job.command.order_id for job, _ in plan.handled if self._has_fault(job, MessageFault.DUPLICATE)}
        return [item for item in plan.outgoing if item.wire.correlation_id in orders]

    def business_fault(self, injected: str | None) -> str | None:
        """The failure asked for at this service, if it is one for the outside to show (the payment gateway)."""
        failure = injected_at(self._service.name, injected)
        return failure if failure in self._service.faults else None

    def _applies_to(self, job: Job) -> bool:
        """`undo_error` is for what must not fail, every other failure for forward steps."""
        return job.is_forward != (job.injected == MessageFault.UNDO_ERROR)

    def _has_fault(self, job: Job, fault: MessageFault) -> bool:
        return job.has_fault(fault, self._service)

    async def _record_faults(self, affected: Sequence[Job]) -> None:
        """Write down which failures act, once an order even if the batch holds a message twice. A database that is away is
        waited for, as at the commit."""
        by_key = {
            f"{job.command.order_id}:{self._service.name}:{job.injected}": job
            for job in affected
            if job.injected in self._recorded_faults
        }
        records = [
            Record(INJECTED_COLLECTION, key, 1, {"failure": f"{self._service.name}:{job.injected}"})
            for key, job in by_key.items()
        ]
        attempt = 0
        while records:
            try:
                return await self._store.put(records)
            except DataRefused:
                raise
            except StoreError as error:
                attempt += 1
                log.warning("note_again", service=self._service.name, attempt=attempt, error=f"{type(error).__name__}: {error}")
                await asyncio.sleep(self._republisher.environment.backoff_s(attempt))
        return None
