"""The outbox relay: what a commit owes to the broker is published until the broker has confirmed it.

In normal running the loop publishes right after its commit and this finds nothing. It is for what a crash, an
outage or a commit of unknown outcome left behind. It may publish twice; the inbox of whoever receives it drops the twin.
"""

import asyncio
import math
from collections.abc import Sequence

import structlog

from broker.codec import unpack
from broker.environment import Sources
from broker.transport import Outgoing, Receipt, Transport
from store.protocol import Store, StoreError

log = structlog.get_logger()

#: Rows published in one go.
ROWS_AT_ONCE = 256
#: Confirmed rows that a commit removes in passing, at least: fewer are not worth a command of their own, and the next look
#: removes what is left.
REMOVED_AT_ONCE = 64


class Relay:
    """Publishes outbox rows and remembers which the broker has confirmed, so that a later commit removes them in passing."""

    def __init__(
        self, worker: str, transport: Transport, store: Store, sources: Sources, *, interval_s: float, after_s: float
    ) -> None:
        self._worker = worker
        self._transport = transport
        self._store = store
        self._sources = sources
        self._interval_s = interval_s
        self._after_s = after_s
        self._sent: dict[str, None] = {}
        #: Rows that no queue took when they were last published: tried again at each look, but nobody waits behind them.
        self._nowhere: set[str] = set()
        self._soon = asyncio.Event()

    async def publish(self, outgoing: Sequence[Outgoing]) -> None:
        """Publish what was just committed. What is not confirmed stays in the outbox and is found again."""
        if not outgoing:
            return
        receipts = await self._transport.publish(outgoing)
        for item, receipt in zip(outgoing, receipts, strict=True):
            message_id = str(item.wire.message_id)
            self._nowhere.discard(message_id)
            if receipt is Receipt.CONFIRMED:
                self._sent[message_id] = None
            else:
                self._nowhere |= {message_id} if receipt is Receipt.UNROUTABLE else set()
                log.warning("not_confirmed", service=self._worker, receipt=receipt.value, to=item.address.routing_key)

    def take_sent(self, least: int = 1) -> list[str]:
        """Rows that the broker has, if there are `least` of them; the caller removes them, or gives them back with `put_back`."""
        if len(self._sent) < least:
            return []
        sent, self._sent = list(self._sent), {}
        return sent

    def put_back(self, sent: Sequence[str]) -> None:
        self._sent.update(dict.fromkeys(sent))

    async def owes(self) -> bool:
        """Whether the outbox holds a row that the broker has not confirmed to us."""
        rows = await self._store.owed(math.inf, len(self._sent) + 1)
        return any(row.message_id not in self._sent for row in rows)

    def hurry(self) -> None:
        """Look at once, at rows of any age: a commit of unknown outcome may have left some."""
        self._soon.set()

    async def run(self) -> None:
        """For ever: look for rows that are owed for too long, the first time for rows of any age."""
        after_s = 0.0
        while True:
            try:
                await self._look(after_s)
            except StoreError as error:
                log.warning("relay_paused", service=self._worker, error=str(error))
            after_s = await self._rest()

    async def _look(self, after_s: float) -> None:
        """Publish what is owed, page by page as long as the broker takes it: after a long outage there may be thousands."""
        more, tried = True, set[str]()
        while more:
            limit = ROWS_AT_ONCE + len(self._nowhere)
            rows = await self._store.owed(self._sources.now() - after_s, limit)
            owed = [unpack(row.payload) for row in rows if row.message_id not in self._sent and row.message_id not in tried]
            if owed:
                log.info("relayed", service=self._worker, count=len(owed))
                await self.publish(owed)
            tried |= self._nowhere
            more = len(rows) == limit and all(row.message_id in self._sent or row.message_id in tried for row in rows)
            await self.flush()

    async def flush(self) -> None:
        """Remove confirmed rows now (in idle times no commit comes along to do it)."""
        sent = self.take_sent()
        if not sent:
            return
        try:
            await self._store.forget(sent)
        except StoreError:
            self.put_back(sent)
            raise

    async def _rest(self) -> float:
        """Wait for the next look; gives the age from which rows are owed then."""
        try:
            async with asyncio.timeout(self._interval_s):
                await self._soon.wait()
        except TimeoutError:
            return self._after_s
        self._soon.clear()
        return 0.0
