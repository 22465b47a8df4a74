"""Applies injected faults in a worker: the implementation of `--fail`. Only workers with faults enabled have an injector.

Each applied fault is recorded in the service's own database, once for each order, so that a storm can compare the faults that it
requested with those that took effect.
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

#: Collection of the records, with ids of the form `order:service:fault`.
INJECTED_COLLECTION = "injected"


def crash() -> None:
    """Kill this process, with no chance to clean up: the effect of the fault `crash`."""
    os.kill(os.getpid(), signal.SIGKILL)


class FaultInjector:
    """Applies the faults injected at one worker."""

    def __init__(
        self, service: Service, store: Store, republisher: Republisher, *, slow_s: float, crash: Callable[[], None] = crash
    ) -> None:
        self._service = service
        self._store = store
        self._republisher = republisher
        self._slow_s = slow_s
        self._crash = crash
        #: The faults that this worker applies and records.
        self._recorded_faults = (
            frozenset(MessageFault) - service.faults if service.external_faults else service.faults | set(MessageFault)
        )

    async def apply(self, jobs: Sequence[Job]) -> tuple[list[Job], list[tuple[Delivery, Outgoing]]]:
        """Apply the faults of these jobs. Return the jobs to continue with, and the republished copies of delayed ones."""
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
        """Return the messages to publish a second time: all that this service publishes for orders with the fault `duplicate`."""
        orders = {job.command.order_id for job, _ in plan.handled if self._has_fault(job, MessageFault.DUPLICATE)}
        return [item for item in plan.outgoing if item.wire.correlation_id in orders]

    def business_fault(self, injected: str | None) -> str | None:
        """Return the business fault injected at this service, for the external system that it calls, or None."""
        fault = injected_at(self._service.name, injected)
        return fault if fault in self._service.faults else None

    def _applies_to(self, job: Job) -> bool:
        """`undo_error` applies to compensations and steps after the pivot, every other fault to forward steps."""
        return job.is_forward != (job.injected == MessageFault.UNDO_ERROR)

    def _has_fault(self, job: Job, fault: MessageFault) -> bool:
        return job.has_fault(fault, self._service)

    async def _record_faults(self, affected: Sequence[Job]) -> None:
        """Record which faults apply, once for each order even if the batch holds a message twice.

        Retries while the database cannot be reached, as the commit does."""
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
                text = f"{type(error).__name__}: {error}"
                log.warning("fault_record_delayed", service=self._service.name, attempt=attempt, error=text)
                await asyncio.sleep(self._republisher.environment.backoff_s(attempt))
        return None
