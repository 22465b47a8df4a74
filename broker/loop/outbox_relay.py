"""The outbox relay: publishes outbox rows until the broker has confirmed them, and says which can be deleted.

Normally the loop publishes right after its commit and the relay finds nothing. It handles the rows that a crash, an outage or a
commit of unknown outcome left behind. It may publish a message twice; the inbox of each receiver drops the duplicate.
"""

import asyncio
import math
from collections.abc import Sequence

import structlog

from broker.codec import unpack
from broker.environment import Environment
from broker.limits import Limits
from broker.transport import Outgoing, Receipt, Transport
from store.protocol import Store, StoreError

log = structlog.get_logger()

#: Rows published at once.
RELAY_BATCH_ROWS = 256
#: Minimum of confirmed rows for a commit to delete: fewer are not worth a database command. The relay's next query deletes
#: the others.
DELETE_BATCH_ROWS = 64


class OutboxRelay:
    """Publishes outbox rows and keeps the ids that the broker has confirmed, for a later commit to delete."""

    def __init__(self, worker: str, transport: Transport, store: Store, environment: Environment, limits: Limits) -> None:
        self._worker = worker
        self._transport = transport
        self._store = store
        self._environment = environment
        self._interval_s = limits.relay_interval_s
        self._after_s = limits.relay_after_s
        self._published: dict[str, None] = {}
        #: Rows that were unroutable at the last attempt: retried at each query, without delaying younger rows.
        self._unroutable: set[str] = set()
        self._triggered = asyncio.Event()

    async def publish(self, outgoing: Sequence[Outgoing]) -> None:
        """Publish committed messages. Those that are not confirmed stay in the outbox, for the relay."""
        if not outgoing:
            return
        receipts = await self._transport.publish(outgoing)
        for item, receipt in zip(outgoing, receipts, strict=True):
            message_id = str(item.wire.message_id)
            self._unroutable.discard(message_id)
            if receipt is Receipt.CONFIRMED:
                self._published[message_id] = None
            else:
                self._unroutable |= {message_id} if receipt is Receipt.UNROUTABLE else set()
                to = item.address.routing_key
                log.warning("publish_not_confirmed", service=self._worker, receipt=receipt.value, to=to)

    def take_published(self, minimum: int = 1) -> list[str]:
        """Take the ids of confirmed rows, if at least `minimum`. The caller deletes them, or returns them by `put_back`."""
        if len(self._published) < minimum:
            return []
        published, self._published = list(self._published), {}
        return published

    def put_back(self, published: Sequence[str]) -> None:
        self._published.update(dict.fromkeys(published))

    async def has_unpublished(self) -> bool:
        """Whether the outbox holds a row that the broker has not confirmed to this relay."""
        rows = await self._store.pending_outbox(math.inf, len(self._published) + 1)
        return any(row.message_id not in self._published for row in rows)

    def trigger(self) -> None:
        """Query at once, for rows of any age: a commit of unknown outcome may have left some."""
        self._triggered.set()

    async def run(self) -> None:
        """Publish pending rows at intervals until cancelled: rows of at least `after_s`, the first time rows of any age."""
        after_s = 0.0
        while True:
            try:
                await self._relay_pending(after_s)
            except StoreError as error:
                log.warning("relay_paused", service=self._worker, error=str(error))
            after_s = await self._wait()

    async def _relay_pending(self, after_s: float) -> None:
        """Publish pending rows page by page while the broker confirms them: after a long outage there may be thousands."""
        more, tried = True, set[str]()
        while more:
            limit = RELAY_BATCH_ROWS + len(self._unroutable)
            rows = await self._store.pending_outbox(self._environment.now() - after_s, limit)
            pending_outbox = [
                unpack(row.payload) for row in rows if row.message_id not in self._published and row.message_id not in tried
            ]
            if pending_outbox:
                log.info("outbox_relayed", service=self._worker, count=len(pending_outbox))
                await self.publish(pending_outbox)
            tried |= self._unroutable
            more = len(rows) == limit and all(row.message_id in self._published or row.message_id in tried for row in rows)
            await self.flush()

    async def flush(self) -> None:
        """Delete confirmed rows now: an idle worker has no commit that would delete them."""
        published = self.take_published()
        if not published:
            return
        try:
            await self._store.delete_published(published)
        except StoreError:
            self.put_back(published)
            raise

    async def _wait(self) -> float:
        """Wait until the next query is due; return the minimum age of its rows, in seconds."""
        try:
            async with asyncio.timeout(self._interval_s):
                await self._triggered.wait()
        except TimeoutError:
            return self._after_s
        self._triggered.clear()
        return 0.0
