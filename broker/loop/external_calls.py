"""External calls, made after the commit and outside the loop, so that a slow call delays no other order.

The pool is bounded. A call may be lost (the pool is full, the process crashes): the document that requested it has a `due_at`,
and its timer repeats the request.
"""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from broker.codec import Origin
from broker.handler import Call
from broker.loop.inputs import InputQueue, LocalInput
from broker.message import Message

log = structlog.get_logger()

#: Makes one call and returns its answer as a message for the loop. The second argument is the fault injected at this service.
Caller = Callable[[Call, str | None], Awaitable[Message]]


class CallPool:
    """Runs at most `limit` calls at once; each answer is queued as a local input."""

    def __init__(self, caller: Caller, inputs: InputQueue, *, limit: int) -> None:
        self._caller = caller
        self._inputs = inputs
        self._limit = limit
        self._running: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._running)

    def start(self, call: Call, origin: Origin, injected: str | None) -> None:
        """Make the call in the background; when the pool is full, leave it to the timer of its document."""
        if len(self._running) >= self._limit:
            log.warning("call_pool_full", order_id=call.order_id, limit=self._limit)
            return
        task = asyncio.get_running_loop().create_task(self._make(call, origin, injected))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _make(self, call: Call, origin: Origin, injected: str | None) -> None:
        try:
            answer = await self._caller(call, injected)
        except Exception:  # a caller must not raise: treat the call as in doubt and leave it to the timer
            log.exception("call_failed", order_id=call.order_id)
            return
        self._inputs.put(LocalInput(answer, origin))

    async def close(self) -> None:
        """Cancel the running calls. They are in doubt, as after a crash."""
        running = list(self._running)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
