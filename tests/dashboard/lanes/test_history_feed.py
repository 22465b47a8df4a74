"""HistoryFeed returns every changed order, also after changes and errors while it reads."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from bootstrap.modes import Mode
from dashboard.lanes.history_feed import AT_ONCE, HistoryFeed
from observer.documents import ObservedOrder
from store.document import Record
from store.memory import MemoryDatabase, MemoryStore
from store.protocol import StoreUnavailable
from tests.support.journey_observations import journey

MODE = Mode.CHOREOGRAPHY
OBSERVATIONS = journey(MODE, "happy")


class HookedStore(MemoryStore):
    """A store that calls `after_read` after each reading transaction."""

    after_read: Callable[[], None] = staticmethod(lambda: None)

    async def transact(self, work: Any) -> Any:
        result = await super().transact(work)
        self.after_read()
        return result


async def record(store: MemoryStore, order_id: str, count: int) -> None:
    """Record the first `count` messages of an order."""
    document = ObservedOrder(order_id=order_id).with_observations(OBSERVATIONS[:count])
    await store.put([Record(*document.key, count, document.to_body())])


async def feed_of(store: MemoryStore, *order_ids: str) -> HistoryFeed:
    await store.open([ObservedOrder.collection])
    history_feed = HistoryFeed(store, MODE)
    for order_id in order_ids:
        await record(store, order_id, 1)
    history_feed.mark_changed(order_ids)
    return history_feed


def test_order_that_changes_while_it_is_read_is_returned_again() -> None:
    async def program() -> tuple[list[str], list[str]]:
        store = HookedStore(MemoryDatabase())
        history_feed = await feed_of(store, OBSERVATIONS[0].order_id)

        def change_meanwhile() -> None:
            store.after_read = lambda: None
            history_feed.mark_changed([OBSERVATIONS[0].order_id])

        store.after_read = change_meanwhile
        first = await history_feed.changed(1)
        await record(store, OBSERVATIONS[0].order_id, len(OBSERVATIONS))
        return [one.state for one in first], [one.state for one in await history_feed.changed(100)]

    assert asyncio.run(program()) == (["ACCEPTED"], ["COMPLETED"])


def test_orders_that_could_not_be_read_are_returned_later() -> None:
    async def program() -> None:
        store = HookedStore(MemoryDatabase())
        ids = [OBSERVATIONS[0].order_id[:-3] + f"{number:03}" for number in range(2 * AT_ONCE)]
        history_feed = await feed_of(store, *ids)
        reads = []

        def fail_at_the_second() -> None:
            reads.append(1)
            if len(reads) == 2:
                raise StoreUnavailable("away")

        store.after_read = fail_at_the_second
        with pytest.raises(StoreUnavailable):
            await history_feed.changed(100)
        assert len(await history_feed.changed(100)) == len(ids)
        assert history_feed.counters.orders == 1

    asyncio.run(program())
