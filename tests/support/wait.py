"""Waiting for a condition, with a deadline that says what was waited for: the only way tests wait for something that runs."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable

#: Long enough for a loaded machine; a test that passes never waits that long.
PATIENCE_S = 10.0


async def until(condition: Callable[[], bool | Awaitable[bool]], what: str, timeout_s: float = PATIENCE_S) -> None:
    """Ask until `condition` (plain or awaited) holds. Raises AssertionError that says what was waited for."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_s
    while True:
        holds = condition()
        if await holds if inspect.isawaitable(holds) else holds:
            return
        if loop.time() > deadline:
            msg = f"waited {timeout_s} s in vain until {what}"
            raise AssertionError(msg)
        await asyncio.sleep(0.005)
