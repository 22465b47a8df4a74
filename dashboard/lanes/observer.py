"""The lane in the observer's process: recorded histories, and the counts of the broker's queues.

Read-only, because the observer's account may not publish. The HTTP API forwards queries to it (dashboard/proxy.py) and accepts
the orders itself.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

from bootstrap.modes import Mode, roles, topology
from broker.topology import dead_queue, queue_of
from broker.transport import TransportError
from dashboard.lanes.history_feed import HistoryFeed
from dashboard.lanes.lane import LaneStatus, QueueStatus, WorkerStatus, lane_status
from observer.history import History
from observer.queries import newest, open_orders
from observer.raw_message import RawMessage
from observer.recorder import with_observer
from store.protocol import Store

#: Maximum orders from before this process started that are shown: the newest, and the open ones.
NEWEST, OPEN_MAX = 200, 500
#: Seconds between two counts of the broker's queues.
COUNT_S = 2.0


class QueueCounts(Protocol):
    """A broker whose queues can be counted (`broker.rabbitmq.transport.RabbitTransport`)."""

    async def counts(self, queues: Sequence[str]) -> Mapping[str, tuple[int, int]]:
        """Queue -> waiting messages and consumers. Raises TransportError."""


class ObserverLane:
    """`dashboard.lanes.lane.LaneView` of a running mode. The observer calls `history_feed.mark_changed`.

    `clock`: seconds since the epoch."""

    def __init__(self, mode: Mode, broker: QueueCounts, store: Store, clock: Callable[[], float]) -> None:
        self.mode = mode
        self.history_feed = HistoryFeed(store, mode)
        self._broker = broker
        self._store = store
        self._now = clock
        self._has_begun = False
        self._queues = tuple(with_observer(topology(mode)).queue_names())
        self._counts: Mapping[str, tuple[int, int]] | None = None
        self._counted_at = float("-inf")

    # --- orders -----------------------------------------------------------------------------------------------------------

    async def changed(self, limit: int) -> list[History]:
        if not self._has_begun:
            recorded = [
                *await open_orders(self._store, self.mode, self._now(), OPEN_MAX),
                *await newest(self._store, self.mode, NEWEST),
            ]
            self.history_feed.mark_changed(sorted(one.order_id for one in recorded))
            self._has_begun = True
        return await self.history_feed.changed(limit)

    async def newest(self, limit: int) -> list[History]:
        return await self.history_feed.newest(limit)

    async def order(self, order_id: str) -> tuple[History, list[RawMessage]] | None:
        return await self.history_feed.order(order_id)

    async def status(self) -> LaneStatus:
        """`audit` is unknown: the observer may not read the services' data. The counters start with this process."""
        await self._count()
        counts = self._counts or {}
        return lane_status(
            self.mode,
            self._now(),
            self.history_feed.counters,
            audit="unknown",
            queues=(QueueStatus(name, *counts[name]) for name in self._queues if name in counts),
            workers=(WorkerStatus(name, counts.get(queue_of(self.mode, name), (0, 1))[1] > 0) for name in roles(self.mode)),
            faults=self._faults(counts),
        )

    async def _count(self) -> None:
        loop = asyncio.get_running_loop()
        if loop.time() - self._counted_at < COUNT_S:
            return
        self._counted_at = loop.time()
        try:
            self._counts = await self._broker.counts(self._queues)
        except TransportError:
            self._counts = None

    def _faults(self, counts: Mapping[str, tuple[int, int]]) -> Iterator[str]:
        if self._counts is None:
            yield "queue counts are unavailable: the broker did not respond"
        for name in roles(self.mode):
            queue = queue_of(self.mode, name)
            if queue in counts and not counts[queue][1]:
                yield f"{name} is down: its queue has no consumer"
            if dead := counts.get(dead_queue(queue), (0, 0))[0]:
                yield f"{name} has {dead} dead letter{'' if dead == 1 else 's'}"
