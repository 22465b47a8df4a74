"""Which message kills its worker: found by our own record, so that it costs a few restarts and nobody else its place.

A message that comes again was in the hands of a worker that died, or whose connection did. The first time, that is
all that is known: it is handled with the others, and marked. If it comes yet again it is a suspect: its batch is handled one by
one, and before a suspect has its turn it is marked as alone. One that was alone and comes again without having been handled has
killed its worker by itself: a dead letter. So a killer costs three restarts, and no neighbour.

What this worker itself had in hand and outlived has killed nobody, whatever brings it again: a copy that could not be put aside,
an acknowledgement that was lost with the connection.

The marks are inbox keys: written by ordinary commits, gone with the inbox.
"""

import re
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from broker.loop.inputs import Input
from broker.message import UUID_PATTERN
from broker.transport import Delivery
from store.protocol import Changes, Reader, Store

#: What is appended to a message's inbox key: it came again; it was alone in hand.
CAME_AGAIN, WAS_ALONE = ":came-again", ":was-alone"
#: How many messages a worker remembers to have outlived. One that is forgotten may be marked, no more.
REMEMBERED = 1024

_UUID = re.compile(UUID_PATTERN)


@dataclass(slots=True)
class Verdict:
    """What is known about a batch. Both hold message ids."""

    suspects: set[str] = field(default_factory=set)
    killers: set[str] = field(default_factory=set)


class Suspects:
    """The record of one worker. `inbox_key` gives the key of a message id."""

    def __init__(self, store: Store, inbox_key: Callable[[str], str]) -> None:
        self._store = store
        self._key = inbox_key
        self._outlived: deque[str] = deque(maxlen=REMEMBERED)

    def outlived(self, deliveries: Sequence[Delivery]) -> None:
        """These were in hand without being handled, and this worker lives."""
        self._outlived.extend(map(id_of, deliveries))

    async def judge(self, inputs: Sequence[Input]) -> Verdict:
        """Look up what came again, and mark what did so for the first time. Raises StoreError."""
        back = [item for item in inputs if isinstance(item, Delivery) and item.redelivered]
        # What is no id of ours cannot be decoded, kills nobody, and is a stranger's text: not for a database.
        again = {message_id for message_id in map(id_of, back) if _UUID.fullmatch(message_id)}
        if not again or not (again := again.difference(self._outlived)):
            return Verdict()
        return await self._store.transact(lambda reader: self._judge(again, reader))

    async def mark_alone(self, message_id: str) -> None:
        """The next thing this worker does is handle this suspect and nothing else. Raises StoreError."""
        await self._store.transact(lambda reader: self._alone(message_id, reader))

    async def _judge(self, again: set[str], reader: Reader) -> tuple[Changes, Verdict]:
        keys = {self._key(message_id) + mark for message_id in again for mark in ("", CAME_AGAIN, WAS_ALONE)}
        seen = await reader.seen(keys)
        verdict, marks = Verdict(), []
        for message_id in sorted(again):
            key = self._key(message_id)
            if key in seen:
                continue  # handled: its acknowledgement was lost
            if key + WAS_ALONE in seen:
                verdict.killers.add(message_id)
            elif key + CAME_AGAIN in seen:
                verdict.suspects.add(message_id)
            else:
                marks.append(key + CAME_AGAIN)
        return Changes(inbox=marks), verdict

    async def _alone(self, message_id: str, reader: Reader) -> tuple[Changes, None]:
        key = self._key(message_id) + WAS_ALONE
        return Changes(inbox=() if await reader.seen([key]) else (key,)), None


def id_of(item: Input) -> str:
    """The message id of a delivery, "" if it has none."""
    return str(item.wire.message_id or "") if isinstance(item, Delivery) else ""
