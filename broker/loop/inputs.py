"""Queue of a worker's inputs: deliveries, answers of external calls and due timers.

Taking never waits for a fuller batch: it waits for the first input, and takes what is queued by then.
"""

import asyncio
from collections import deque
from dataclasses import dataclass

from broker.codec import Origin
from broker.message import Message
from broker.transport import Delivery


@dataclass(frozen=True, slots=True)
class LocalInput:
    """An input from inside the process: the answer of a call, a due timer or an API request.

    It has no inbox key: the handlers' state tables make a duplicate harmless."""

    message: Message
    origin: Origin


Input = Delivery | LocalInput


class InputQueue:
    """First-in-first-out queue. Bounded by its producers: the prefetch, the call pool and the timers' batch limit."""

    def __init__(self) -> None:
        self._inputs: deque[Input] = deque()
        self._not_empty = asyncio.Event()

    def __len__(self) -> int:
        return len(self._inputs)

    def put(self, item: Input) -> None:
        self._inputs.append(item)
        self._not_empty.set()

    def wake(self) -> None:
        """Let `take` return even if it is empty, so that the loop can check for a shutdown or a failed task."""
        self._not_empty.set()

    async def take(self, limit: int) -> list[Input]:
        """Wait for an input and return all that are queued, up to `limit`. Empty only after `wake`."""
        await self._not_empty.wait()
        taken = [self._inputs.popleft() for _ in range(min(limit, len(self._inputs)))]
        if not self._inputs:
            self._not_empty.clear()
        return taken
