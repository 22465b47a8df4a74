"""Calls to the outside, made after the commit and outside the loop: a call that hangs holds up no other order.

A bounded pool. A call that is lost (the pool is full, the process dies) is no loss: the document that asked for it
has a `due_at`, and whoever finds it then asks again.
"""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from broker.codec import Origin
from broker.handler import Call
from broker.loop.inputs import InputQueue, LocalInput
from broker.message import Message

log = structlog.get_logger()

#: Makes one call and gives its answer as a message for the loop. The second argument is the failure injected at this service.
Caller = Callable[[Call, str | None], Awaitable[Message]]


class CallPool:
    """At most `limit` calls at once; each answer goes to the intake as a local input."""

    def __init__(self, caller: Caller, inputs: InputQueue, *, limit: int) -> None:
        self._caller = caller
        self._inputs = inputs
        self._limit = limit
        self._running: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._running)

    def start(self, call: Call, origin: Origin, injected: str | None) -> None:
        """Make the call in the background, or leave it to its document's `due_at` when the pool is full."""
        if len(self._running) >= self._limit:
            log.warning("call_pool_full", order_id=call.order_id, limit=self._limit)
            return
        task = asyncio.get_running_loop().create_task(self._make(call, origin, injected))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _make(self, call: Call, origin: Origin, injected: str | None) -> None:
        try:
            answer = await self._caller(call, injected)
        except Exception:  # a client that breaks its promise not to raise: in doubt, so the wait decides
            log.exception("call_failed", order_id=call.order_id)
            return
        self._inputs.put(LocalInput(answer, origin))

    async def close(self) -> None:
        """Abandon what is under way: it is in doubt, like after a crash."""
        running = list(self._running)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
