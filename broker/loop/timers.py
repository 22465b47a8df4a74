"""The watch: documents whose wait is over become inputs of the loop.

A wait is a `due_at` in a document, so it survives everything the document survives. Finding one twice is harmless:
its handler looks at the document as it is then, and an ordinary commit claims it.
"""

import asyncio

import structlog

from broker.codec import Origin
from broker.environment import Environment
from broker.loop.inputs import InputQueue, LocalInput
from broker.role import Role
from store.protocol import Store, StoreError

log = structlog.get_logger()

#: Waits taken up in one look.
TIMER_BATCH_MAX = 500


async def run_timers(role: Role, store: Store, inputs: InputQueue, environment: Environment, interval_s: float) -> None:
    """For ever: every `interval_s`, put what is due into the intake. A worker that is behind is not given more."""
    while role.service.timers:
        await asyncio.sleep(interval_s)
        if len(inputs) >= TIMER_BATCH_MAX:
            continue
        try:
            await _fire_due(role, store, inputs, environment)
        except StoreError as error:
            log.warning("watch_paused", service=role.worker, error=str(error))


async def _fire_due(role: Role, store: Store, inputs: InputQueue, environment: Environment) -> None:
    for timer in role.service.timers:
        for record in await store.due(timer.kind.collection, environment.now(), TIMER_BATCH_MAX):
            message = timer.fires(order_id=record.document_id)
            inputs.put(LocalInput(message, Origin.from_context(record.body.get("context"))))
