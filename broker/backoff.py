"""Patience with servers that are away: what is asked of one is asked again, after a growing pause, until somebody says stop.

Workers and the observer wait here, so that each of them ends at once when it is told to.
"""

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

import structlog

from broker.environment import Environment
from broker.transport import TransportUnavailable
from store.protocol import DataRefused, StoreError, UnsafeStore

log = structlog.get_logger()

T = TypeVar("T")

#: What waiting does not mend.
PERMANENT_ERRORS = (UnsafeStore, DataRefused)


class ShutdownRequested(Exception):  # noqa: N818 - it names what happened
    """Told to stop while a server is away: what is in hand stays unacknowledged and comes again."""


async def pause(seconds: float, until: asyncio.Event) -> None:
    """Wait so long, or until the event is set."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await until.wait()


class Backoff:
    """That of one worker, `worker`, with its servers. It ends when `stopping` is set."""

    def __init__(self, worker: str, environment: Environment, stopping: asyncio.Event) -> None:
        self._worker = worker
        self._environment = environment
        self._stopping = stopping

    async def retry_until(
        self, step: Callable[[], Awaitable[T]], *, permanent: tuple[type[StoreError], ...] = PERMANENT_ERRORS
    ) -> T:
        """Do something at a server until it succeeds; once at least. Raises `permanent`, which is not waited out, and Stopped."""
        for attempt in itertools.count(1):
            try:
                return await step()
            except permanent:
                raise
            except (StoreError, TransportUnavailable) as error:
                await self.wait(attempt, error)
        raise AssertionError

    async def wait(self, attempt: int, error: Exception) -> None:
        """Wait after an attempt that failed; told to stop meanwhile, let one more be made at once. Raises Stopped after that."""
        log.warning("waiting_for_server", service=self._worker, attempt=attempt, error=f"{type(error).__name__}: {error}")
        if self._stopping.is_set():
            raise ShutdownRequested from error
        await pause(self._environment.backoff_s(attempt), self._stopping)
