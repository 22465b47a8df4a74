"""What the observer has written down, read as histories. Works whether it runs or not."""

from collections.abc import Collection, Sequence

from observer.documents import HeardOrder, Losses
from observer.history import History, Loss, history
from observer.message_flow import PICTURES
from observer.raw_message import Original
from store.document import Record
from store.protocol import Changes, Reader, Store


async def history_of(store: Store, mode: str, order_id: str) -> History | None:
    """One order's history; None when nothing was heard of it. Raises StoreError."""
    told = await histories_of(store, mode, [order_id])
    return told[0] if told else None


async def histories_of(store: Store, mode: str, order_ids: Collection[str]) -> list[History]:
    """The histories of those that anything was heard of. Raises StoreError."""
    return await _told(store, mode, await _heard(store, order_ids))


async def with_messages(store: Store, mode: str, order_id: str) -> tuple[History, list[Original]] | None:
    """One order's history, and the message of each entry as it was sent; None when nothing was heard of it. Raises StoreError."""
    found = await _heard(store, [order_id])
    if not found:
        return None
    (told,) = await _told(store, mode, found)
    heard = HeardOrder.from_body(found[0].body).sightings
    return told, [Original.from_text(heard[entry.message_id].get("original", "")) for entry in told.entries]


async def newest(store: Store, mode: str, limit: int) -> list[History]:
    """The newest orders by id, which is by age. Raises StoreError."""
    return await _told(store, mode, await store.find(HeardOrder.collection, None, limit))


async def open_orders(store: Store, mode: str, before: float, limit: int) -> list[History]:
    """Those that have not ended and moved last before then (seconds since the epoch), the stalest first. Raises StoreError."""
    return await _told(store, mode, await store.due(HeardOrder.collection, before, limit))


async def _heard(store: Store, order_ids: Collection[str]) -> list[Record]:
    async def read(reader: Reader) -> tuple[Changes, list[Record]]:
        return Changes(), list((await reader.load([HeardOrder.key_of(order_id) for order_id in order_ids])).values())

    return await store.transact(read)


async def _told(store: Store, mode: str, found: Sequence[Record]) -> list[History]:
    losses = [loss for record in await store.find(Losses.collection) for loss in Losses.from_body(record.body).all()]
    return [_history(mode, HeardOrder.from_body(record.body), losses) for record in found]


def _history(mode: str, known: HeardOrder, losses: Sequence[Loss]) -> History:
    return history(PICTURES[mode], known.all(), losses, cut=known.cut)
