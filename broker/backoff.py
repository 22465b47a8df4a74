"""Retries with exponential backoff against a server that cannot be reached, interruptible by a shutdown.

Used by the workers and the observer, so that both end at once when they are asked to stop.
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

#: Errors that a retry cannot fix.
PERMANENT_ERRORS = (UnsafeStore, DataRefused)


class ShutdownRequested(Exception):  # noqa: N818 - it names what happened
    """The process was asked to stop while a server was unreachable; unacknowledged deliveries will be redelivered."""


async def pause(seconds: float, until: asyncio.Event) -> None:
    """Wait for `seconds`, or until the event is set."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await until.wait()


class Backoff:
    """Retry policy of one worker, named in the log; waiting ends when `stopping` is set."""

    def __init__(self, worker: str, environment: Environment, stopping: asyncio.Event) -> None:
        self._worker = worker
        self._environment = environment
        self._stopping = stopping

    async def retry_until(
        self, step: Callable[[], Awaitable[T]], *, permanent: tuple[type[StoreError], ...] = PERMANENT_ERRORS
    ) -> T:
        """Run `step` until it succeeds, at least once. Raises ShutdownRequested, and the errors in `permanent` at once."""
        for attempt in itertools.count(1):
            try:
                return await step()
            except permanent:
                raise
            except (StoreError, TransportUnavailable) as error:
                await self.wait(attempt, error)
        raise AssertionError

    async def wait(self, attempt: int, error: Exception) -> None:
        """Wait after a failed attempt. A shutdown ends the wait for one last attempt, then ShutdownRequested is raised."""
        log.warning("waiting_for_server", service=self._worker, attempt=attempt, error=f"{type(error).__name__}: {error}")
        if self._stopping.is_set():
            raise ShutdownRequested from error
        await pause(self._environment.backoff_s(attempt), self._stopping)
