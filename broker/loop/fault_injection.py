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
from broker.loop.batch import Job, Plan
from broker.loop.retry import LATE_LEVEL, Aside
from broker.role import Service
from broker.transport import Delivery, Outgoing
from store.document import Record
from store.protocol import DataRefused, Store, StoreError

log = structlog.get_logger()

#: Where the notes are kept, keyed by `order:service:failure`.
NOTES = "injected"


def die() -> None:
    """What `crash` does: this process is killed, with no chance to tidy up."""
    os.kill(os.getpid(), signal.SIGKILL)


class Injection:
    """The failures asked for at one worker."""

    def __init__(self, service: Service, store: Store, aside: Aside, *, slow_s: float, die: Callable[[], None] = die) -> None:
        self._service = service
        self._store = store
        self._aside = aside
        self._slow_s = slow_s
        self._die = die
        #: The failures that act here and are noted here.
        self._noted = frozenset(MessageFault) - service.faults if service.external_faults else service.faults | set(MessageFault)

    async def suffer(self, jobs: Sequence[Job]) -> tuple[list[Job], list[tuple[Delivery, Outgoing]]]:
        """Let the failures of these jobs act. Gives the jobs to go on with, and copies of those held back."""
        acting = [job for job in jobs if job.injected and job.delivery and self._hits(job)]
        await self._note(acting)
        if any(self._is(job, MessageFault.CRASH) and not job.delivery.redelivered for job in acting if job.delivery):
            self._die()
        if any(self._is(job, MessageFault.SLOW) for job in acting):
            await asyncio.sleep(self._slow_s)
        held = [job for job in acting if self._is(job, MessageFault.LATE) and job.envelope.attempt == 1]
        parcels = [(job.delivery, self._aside.later(job.delivery, LATE_LEVEL, 2, jitter=False)) for job in held if job.delivery]
        return [job for job in jobs if job not in held], parcels

    def doubled(self, plan: Plan) -> list[Outgoing]:
        """What `duplicate` sends a second time: everything this service publishes for the order."""
        orders = {job.command.order_id for job, _ in plan.handled if self._is(job, MessageFault.DUPLICATE)}
        return [item for item in plan.outgoing if item.wire.correlation_id in orders]

    def of_the_business(self, injected: str | None) -> str | None:
        """The failure asked for at this service, if it is one for the outside to show (the payment gateway)."""
        failure = injected_at(self._service.name, injected)
        return failure if failure in self._service.faults else None

    def _hits(self, job: Job) -> bool:
        """`undo_error` is for what must not fail, every other failure for forward steps."""
        return job.is_forward != (job.injected == MessageFault.UNDO_ERROR)

    def _is(self, job: Job, fault: MessageFault) -> bool:
        return job.suffers(fault, self._service)

    async def _note(self, acting: Sequence[Job]) -> None:
        """Write down which failures act, once an order even if the batch holds a message twice. A database that is away is
        waited for, as at the commit."""
        noted = {
            f"{job.command.order_id}:{self._service.name}:{job.injected}": job for job in acting if job.injected in self._noted
        }
        records = [Record(NOTES, key, 1, {"failure": f"{self._service.name}:{job.injected}"}) for key, job in noted.items()]
        attempt = 0
        while records:
            try:
                return await self._store.put(records)
            except DataRefused:
                raise
            except StoreError as error:
                attempt += 1
                log.warning("note_again", service=self._service.name, attempt=attempt, error=f"{type(error).__name__}: {error}")
                await asyncio.sleep(self._aside.sources.backoff_s(attempt))
        return None
