"""The histories of a lane's orders, from the observer's store: each order that changed, and counters.

Shared by the demo lane and the observer lane, which differ in where the observer runs.
"""

from collections.abc import Iterable
from itertools import islice

from dashboard.lanes.lane import LaneCounters
from observer.history import History
from observer.queries import histories_of, history_with_messages, newest
from observer.raw_message import RawMessage
from store.protocol import Store

#: Histories that are read in one transaction.
AT_ONCE = 20


class HistoryFeed:
    """The orders of one lane. The observer calls `mark_changed` with the orders that it has recorded messages of."""

    def __init__(self, store: Store, mode: str) -> None:
        self.counters = LaneCounters()
        self._store = store
        self._mode = mode
        #: Orders that have changed since `changed` last returned them, oldest change first.
        self._changed: dict[str, None] = {}

    def mark_changed(self, order_ids: Iterable[str]) -> None:
        self._changed.update(dict.fromkeys(order_ids))

    async def changed(self, limit: int) -> list[History]:
        """As `LaneView.changed`. Raises StoreError; the orders that could not be read are returned by a later call."""
        histories: list[History] = []
        taken: list[str] = []
        try:
            while self._changed and len(taken) < limit:
                order_ids = list(islice(self._changed, min(AT_ONCE, limit - len(taken))))
                for order_id in order_ids:  # before it is read, so that a message recorded meanwhile marks it again
                    del self._changed[order_id]
                taken += order_ids
                histories += await histories_of(self._store, self._mode, order_ids)
        except BaseException:
            self._changed = dict.fromkeys(taken) | self._changed
            raise
        for history in histories:
            self.counters.count(history)
        return histories

    async def newest(self, limit: int) -> list[History]:
        return await newest(self._store, self._mode, limit)

    async def order(self, order_id: str) -> tuple[History, list[RawMessage]] | None:
        return await history_with_messages(self._store, self._mode, order_id)
