"""The watch: documents whose wait is over become inputs of the loop.

A wait is a `due_at` in a document, so it survives everything the document survives. Finding one twice is harmless:
its handler looks at the document as it is then, and an ordinary commit claims it.
"""

import asyncio

import structlog

from broker.codec import Origin
from broker.environment import Sources
from broker.loop.inputs import Intake, Local
from broker.role import Role
from store.protocol import Store, StoreError

log = structlog.get_logger()

#: Waits taken up in one look.
DUE_AT_ONCE = 500


async def watch(role: Role, store: Store, intake: Intake, sources: Sources, interval_s: float) -> None:
    """For ever: every `interval_s`, put what is due into the intake. A worker that is behind is not given more."""
    while role.service.watches:
        await asyncio.sleep(interval_s)
        if len(intake) >= DUE_AT_ONCE:
            continue
        try:
            await _look(role, store, intake, sources)
        except StoreError as error:
            log.warning("watch_paused", service=role.worker, error=str(error))


async def _look(role: Role, store: Store, intake: Intake, sources: Sources) -> None:
    for wait in role.service.watches:
        for record in await store.due(wait.kind.collection, sources.now(), DUE_AT_ONCE):
            message = wait.wakes(order_id=record.document_id)
            intake.put(Local(message, Origin.from_context(record.body.get("context"))))
