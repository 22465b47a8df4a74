"""An observer beside a whole mode in one event loop, as `saga up` has one beside its workers."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from lab.system import System
from observer.recorder import NAME, Observer


@asynccontextmanager
async def observed(system: System) -> AsyncIterator[Observer]:
    """It hears while the block runs, and has written down all that it heard when the block is left."""
    transport = system.parts.transport(NAME)
    observer = Observer(system.door.topology, transport, system.parts.store(NAME), system.parts.sources)
    hearing = asyncio.create_task(observer.run(), name=NAME)
    try:
        await system.until(observer.ready.is_set, "the observer to hear")
        yield observer
        await system.until(observer.caught_up, "the observer to have written all down")
    finally:
        observer.stop()
        await hearing
        await transport.close()
