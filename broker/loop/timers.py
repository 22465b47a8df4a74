"""Timers: a document whose `due_at` has passed becomes an input of the loop.

A timer is part of its document, so it survives a crash. Firing one twice is harmless: the handler reads the current document, and
an ordinary commit clears or advances `due_at`.
"""

import asyncio

import structlog

from broker.codec import Origin
from broker.environment import Environment
from broker.loop.inputs import InputQueue, LocalInput
from broker.role import Role
from store.protocol import Store, StoreError

log = structlog.get_logger()

#: Maximum timers fired by one query.
TIMER_BATCH_MAX = 500


async def run_timers(role: Role, store: Store, inputs: InputQueue, environment: Environment, interval_s: float) -> None:
    """Every `interval_s`, queue the due timers as inputs, until cancelled. Skips a turn while the worker is behind."""
    while role.service.timers:
        await asyncio.sleep(interval_s)
        if len(inputs) >= TIMER_BATCH_MAX:
            continue
        try:
            await _fire_due(role, store, inputs, environment)
        except StoreError as error:
            log.warning("timers_paused", service=role.worker, error=str(error))


async def _fire_due(role: Role, store: Store, inputs: InputQueue, environment: Environment) -> None:
    for timer in role.service.timers:
        for record in await store.due(timer.kind.collection, environment.now(), TIMER_BATCH_MAX):
            message = timer.fires(order_id=record.document_id)
            inputs.put(LocalInput(message, Origin.from_context(record.body.get("context"))))
