"""What moved is told, whatever happens while it is read."""

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
SEEN = journey(MODE, "happy")


class Watched(MemoryStore):
    """Calls `before` at each reading transaction."""

    before: Callable[[], None] = staticmethod(lambda: None)

    async def transact(self, work: Any) -> Any:
        result = await super().transact(work)
        self.before()
        return result


async def written(store: MemoryStore, order_id: str, count: int) -> None:
    """The first `count` messages of an order are written down."""
    document = ObservedOrder(order_id=order_id).with_observations(SEEN[:count])
    await store.put([Record(*document.key, count, document.to_body())])


async def heard_in(store: MemoryStore, *order_ids: str) -> HistoryFeed:
    await store.open([ObservedOrder.collection])
    history_feed = HistoryFeed(store, MODE)
    for order_id in order_ids:
        await written(store, order_id, 1)
    history_feed.mark_changed(order_ids)
    return history_feed


def test_an_order_that_moves_while_it_is_read_is_told_again() -> None:
    async def program() -> tuple[list[str], list[str]]:
        store = Watched(MemoryDatabase())
        history_feed = await heard_in(store, SEEN[0].order_id)

        def meanwhile() -> None:
            store.before = lambda: None
            history_feed.mark_changed([SEEN[0].order_id])

        store.before = meanwhile
        first = await history_feed.changed(1)
        await written(store, SEEN[0].order_id, len(SEEN))
        return [one.state for one in first], [one.state for one in await history_feed.changed(100)]

    assert asyncio.run(program()) == (["ACCEPTED"], ["COMPLETED"])


def test_what_could_not_be_read_is_told_later_all_of_it() -> None:
    async def program() -> None:
        store = Watched(MemoryDatabase())
        ids = [SEEN[0].order_id[:-3] + f"{number:03}" for number in range(2 * AT_ONCE)]
        history_feed = await heard_in(store, *ids)
        readings = []

        def fail_at_the_second() -> None:
            readings.append(1)
            if len(readings) == 2:
                raise StoreUnavailable("away")

        store.before = fail_at_the_second
        with pytest.raises(StoreUnavailable):
            await history_feed.changed(100)
        assert len(await history_feed.changed(100)) == len(ids)
        assert history_feed.counters.orders == 1

    asyncio.run(program())
