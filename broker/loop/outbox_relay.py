"""The outbox relay: what a commit owes to the broker is published until the broker has confirmed it.

In normal running the loop publishes right after its commit and this finds nothing. It is for what a crash, an
outage or a commit of unknown outcome left behind. It may publish twice; the inbox of whoever receives it drops the twin.
"""

import asyncio
import math
from collections.abc import Sequence

import structlog

from broker.codec import unpack
from broker.environment import Environment
from broker.transport import Outgoing, Receipt, Transport
from store.protocol import Store, StoreError

log = structlog.get_logger()

#: Rows published in one go.
RELAY_BATCH_ROWS = 256
#: Confirmed rows that a commit removes in passing, at least: fewer are not worth a command of their own, and the next look
#: removes what is left.
DELETE_BATCH_ROWS = 64


class OutboxRelay:
    """Publishes outbox rows and remembers which the broker has confirmed, so that a later commit removes them in passing."""

    def __init__(
        self, worker: str, transport: Transport, store: Store, environment: Environment, *, interval_s: float, after_s: float
    ) -> None:
        self._worker = worker
        self._transport = transport
        self._store = store
        self._environment = environment
        self._interval_s = interval_s
        self._after_s = after_s
        self._published: dict[str, None] = {}
        #: Rows that no queue took when they were last published: tried again at each look, but nobody waits behind them.
        self._unroutable: set[str] = set()
        self._triggered = asyncio.Event()

    async def publish(self, outgoing: Sequence[Outgoing]) -> None:
        """Publish what was just committed. What is not confirmed stays in the outbox and is found again."""
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
                log.warning("not_confirmed", service=self._worker, receipt=receipt.value, to=item.address.routing_key)

    def take_published(self, minimum: int = 1) -> list[str]:
        """Rows that the broker has, if there are `minimum` of them; the caller removes them, or gives them back with `put_back`."""
        if len(self._published) < minimum:
            return []
        published, self._published = list(self._published), {}
        return published

    def put_back(self, published: Sequence[str]) -> None:
        self._published.update(dict.fromkeys(published))

    async def has_unpublished(self) -> bool:
        """Whether the outbox holds a row that the broker has not confirmed to us."""
        rows = await self._store.pending_outbox(math.inf, len(self._published) + 1)
        return any(row.message_id not in self._published for row in rows)

    def trigger(self) -> None:
        """Look at once, at rows of any age: a commit of unknown outcome may have left some."""
        self._triggered.set()

    async def run(self) -> None:
        """For ever: look for rows that are owed for too long, the first time for rows of any age."""
        after_s = 0.0
        while True:
            try:
                await self._relay_pending(after_s)
            except StoreError as error:
                log.warning("relay_paused", service=self._worker, error=str(error))
            after_s = await self._wait()

    async def _relay_pending(self, after_s: float) -> None:
        """Publish what is owed, page by page as long as the broker takes it: after a long outage there may be thousands."""
        more, tried = True, set[str]()
        while more:
            limit = RELAY_BATCH_ROWS + len(self._unroutable)
            rows = await self._store.pending_outbox(self._environment.now() - after_s, limit)
            pending_outbox = [
                unpack(row.payload) for row in rows if row.message_id not in self._published and row.message_id not in tried
            ]
            if pending_outbox:
                log.info("relayed", service=self._worker, count=len(pending_outbox))
                await self.publish(pending_outbox)
            tried |= self._unroutable
            more = len(rows) == limit and all(row.message_id in self._published or row.message_id in tried for row in rows)
            await self.flush()

    async def flush(self) -> None:
        """Remove confirmed rows now (in idle times no commit comes along to do it)."""
        published = self.take_published()
        if not published:
            return
        try:
            await self._store.delete_published(published)
        except StoreError:
            self.put_back(published)
            raise

    async def _wait(self) -> float:
        """Wait for the next look; gives the age from which rows are owed then."""
        try:
            async with asyncio.timeout(self._interval_s):
                await self._triggered.wait()
        except TimeoutError:
            return self._after_s
        self._triggered.clear()
        return 0.0
