"""What an observer has written down of a lane's orders, told again whenever one has moved, and counted.

Shared by the lanes: only where the observer runs differs.
"""

from collections.abc import Iterable
from itertools import islice

from dashboard.lanes.lane import LaneCounters
from observer.history import History
from observer.queries import histories_of, history_with_messages, newest
from observer.raw_message import RawMessage
from store.protocol import Store

#: Histories that are told between two turns of the loop.
AT_ONCE = 20


class HistoryFeed:
    """The orders of one lane. `note` is to be called with those that something was written down of."""

    def __init__(self, store: Store, mode: str) -> None:
        self.counters = LaneCounters()
        self._store = store
        self._mode = mode
        #: Orders that have moved since they were last told, the longest ago first.
        self._changed: dict[str, None] = {}

    def mark_changed(self, order_ids: Iterable[str]) -> None:
        self._changed.update(dict.fromkeys(order_ids))

    async def changed(self, limit: int) -> list[History]:
        """As `dashboard.lanes.lane.Shown.changed`. Raises StoreError; what could not be told then is told at a later call."""
        histories: list[History] = []
        taken: list[str] = []
        try:
            while self._changed and len(taken) < limit:
                order_ids = list(islice(self._changed, min(AT_ONCE, limit - len(taken))))
                for order_id in order_ids:  # before it is read: whatever is written down meanwhile is told again
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
