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
REDELIVERED_MARK, ISOLATED_MARK = ":came-again", ":was-alone"
#: How many messages a worker remembers to have outlived. One that is forgotten may be marked, no more.
SURVIVED_MAX = 1024

_UUID = re.compile(UUID_PATTERN)


@dataclass(slots=True)
class PoisonReport:
    """What is known about a batch. Both hold message ids."""

    suspected_ids: set[str] = field(default_factory=set)
    poison_ids: set[str] = field(default_factory=set)


class PoisonDetector:
    """The record of one worker. `inbox_key` gives the key of a message id."""

    def __init__(self, store: Store, inbox_key: Callable[[str], str]) -> None:
        self._store = store
        self._key = inbox_key
        self._survived: deque[str] = deque(maxlen=SURVIVED_MAX)

    def mark_survived(self, deliveries: Sequence[Delivery]) -> None:
        """These were in hand without being handled, and this worker lives."""
        self._survived.extend(map(id_of, deliveries))

    async def classify(self, inputs: Sequence[Input]) -> PoisonReport:
        """Look up what came again, and mark what did so for the first time. Raises StoreError."""
        redelivered = [item for item in inputs if isinstance(item, Delivery) and item.redelivered]
        # What is no id of ours cannot be decoded, kills nobody, and is a stranger's text: not for a database.
        redelivered_ids = {message_id for message_id in map(id_of, redelivered) if _UUID.fullmatch(message_id)}
        if not redelivered_ids or not (redelivered_ids := redelivered_ids.difference(self._survived)):
            return PoisonReport()
        return await self._store.transact(lambda reader: self._classify(redelivered_ids, reader))

    async def mark_isolated(self, message_id: str) -> None:
        """The next thing this worker does is handle this suspect and nothing else. Raises StoreError."""
        await self._store.transact(lambda reader: self._mark_isolated(message_id, reader))

    async def _classify(self, redelivered_ids: set[str], reader: Reader) -> tuple[Changes, PoisonReport]:
        keys = {self._key(message_id) + mark for message_id in redelivered_ids for mark in ("", REDELIVERED_MARK, ISOLATED_MARK)}
        seen = await reader.known_inbox_keys(keys)
        report, marks = PoisonReport(), []
        for message_id in sorted(redelivered_ids):
            key = self._key(message_id)
            if key in seen:
                continue  # handled: its acknowledgement was lost
            if key + ISOLATED_MARK in seen:
                report.poison_ids.add(message_id)
            elif key + REDELIVERED_MARK in seen:
                report.suspected_ids.add(message_id)
            else:
                marks.append(key + REDELIVERED_MARK)
        return Changes(inbox=marks), report

    async def _mark_isolated(self, message_id: str, reader: Reader) -> tuple[Changes, None]:
        key = self._key(message_id) + ISOLATED_MARK
        return Changes(inbox=() if await reader.known_inbox_keys([key]) else (key,)), None


def id_of(item: Input) -> str:
    """The message id of a delivery, "" if it has none."""
    return str(item.wire.message_id or "") if isinstance(item, Delivery) else ""
