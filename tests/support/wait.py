"""Waiting for a condition, with a deadline whose error says what was waited for."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable

#: Default deadline in seconds, long enough for a loaded machine.
TIMEOUT_S = 10.0


async def until(condition: Callable[[], bool | Awaitable[bool]], what: str, timeout_s: float = TIMEOUT_S) -> None:
    """Poll until `condition` (plain or awaitable) holds. Raises AssertionError, which says what was waited for."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_s
    while True:
        holds = condition()
        if await holds if inspect.isawaitable(holds) else holds:
            return
        if loop.time() > deadline:
            msg = f"timed out after {timeout_s} s while waiting until {what}"
            raise AssertionError(msg)
        await asyncio.sleep(0.005)
