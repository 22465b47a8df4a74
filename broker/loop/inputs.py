"""Where a worker's inputs gather until the loop takes them: deliveries of its queue, answers of its calls, waits that are over.

Taking never waits for a fuller batch: the first input is awaited, what is there with it is taken along.
"""

import asyncio
from collections import deque
from dataclasses import dataclass

from broker.codec import Origin
from broker.message import Message
from broker.transport import Delivery


@dataclass(frozen=True, slots=True)
class LocalInput:
    """An input that did not come over the wire: the answer of a call, or a wait that is over. It has no inbox key: the handlers'
    state tables meet its twin."""

    message: Message
    origin: Origin


Input = Delivery | LocalInput


class InputQueue:
    """First in, first out. Bounded from outside: by the prefetch, the call pool and the watch's limit."""

    def __init__(self) -> None:
        self._inputs: deque[Input] = deque()
        self._not_empty = asyncio.Event()

    def __len__(self) -> int:
        return len(self._inputs)

    def put(self, item: Input) -> None:
        self._inputs.append(item)
        self._not_empty.set()

    def wake(self) -> None:
        """Let `take` return even with nothing, so that whoever takes can look around (and stop)."""
        self._not_empty.set()

    async def take(self, limit: int) -> list[Input]:
        """Everything that is here, up to `limit`, as soon as there is anything. Empty only after `wake`."""
        await self._not_empty.wait()
        taken = [self._inputs.popleft() for _ in range(min(limit, len(self._inputs)))]
        if not self._inputs:
            self._not_empty.clear()
        return taken
