"""Detects poison messages: a message that crashes its worker is dead-lettered after three restarts; other messages of its batch
are handled normally.

A redelivered message was unsettled when a worker crashed or lost its connection. The first time, it is handled in its batch and
marked as redelivered. If it is redelivered again it is a suspect: its batch is handled one message at a time, and the suspect
is marked as isolated before it is handled. An isolated message that is redelivered without having been handled crashed its
worker alone: it is a poison message.

A message that this process survived is never a suspect, even if it is redelivered to it: its retry copy may not have been
confirmed, or its acknowledgement lost with the connection.

The marks are inbox keys, written by ordinary commits and deleted with the inbox.
"""

import re
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from broker.loop.inputs import Input
from broker.message import UUID_PATTERN
from broker.transport import Delivery
from store.protocol import Changes, Reader, Store

#: Suffixes of a message's inbox key: it was redelivered; it was handled alone.
REDELIVERED_MARK, ISOLATED_MARK = ":redelivered", ":isolated"
#: How many survived messages a worker remembers. The only effect of forgetting one is that it may be marked.
SURVIVED_MAX = 1024
#: The restarts that the two marks amount to, as its dead letter reports them: two until a message is suspected, one in isolation.
RESTARTS_CAUSED = 3

_UUID = re.compile(UUID_PATTERN)


@dataclass(slots=True)
class PoisonReport:
    """Message ids of a batch that are suspected to be poison, or known to be."""

    suspected_ids: set[str] = field(default_factory=set)
    poison_ids: set[str] = field(default_factory=set)


class PoisonDetector:
    """Detector of one worker. `inbox_key` returns the inbox key of a message id."""

    def __init__(self, store: Store, inbox_key: Callable[[str], str]) -> None:
        self._store = store
        self._key = inbox_key
        self._survived: deque[str] = deque(maxlen=SURVIVED_MAX)

    def mark_survived(self, deliveries: Sequence[Delivery]) -> None:
        """Record that this process survived these deliveries without committing them."""
        self._survived.extend(map(id_of, deliveries))

    async def classify(self, inputs: Sequence[Input]) -> PoisonReport:
        """Look up the redelivered messages, and mark those redelivered for the first time. Raises StoreError."""
        redelivered = [item for item in inputs if isinstance(item, Delivery) and item.redelivered]
        # A message whose id is not a UUID is refused before its handler; its id is untrusted text, so it is not stored.
        redelivered_ids = {message_id for message_id in map(id_of, redelivered) if _UUID.fullmatch(message_id)}
        if not redelivered_ids or not (redelivered_ids := redelivered_ids.difference(self._survived)):
            return PoisonReport()
        return await self._store.transact(lambda reader: self._classify(redelivered_ids, reader))

    async def mark_isolated(self, message_id: str) -> None:
        """Mark a suspect as isolated, before it is handled alone. Raises StoreError."""
        await self._store.transact(lambda reader: self._mark_isolated(message_id, reader))

    async def _classify(self, redelivered_ids: set[str], reader: Reader) -> tuple[Changes, PoisonReport]:
        keys = {self._key(message_id) + mark for message_id in redelivered_ids for mark in ("", REDELIVERED_MARK, ISOLATED_MARK)}
        seen = await reader.known_inbox_keys(keys)
        report, marks = PoisonReport(), []
        for message_id in sorted(redelivered_ids):
            key = self._key(message_id)
            if key in seen:
                continue  # handled; its acknowledgement was lost
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
    """Return the message id of a delivery, "" for one without an id and for a local input."""
    return str(item.wire.message_id or "") if isinstance(item, Delivery) else ""
