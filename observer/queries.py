"""Queries: the observer's stored observations, read as histories. The observer itself need not run."""

from collections.abc import Collection, Sequence

from observer.documents import LossPeriods, ObservedOrder
from observer.history import History, LossPeriod, build_history
from observer.message_flow import MESSAGE_FLOWS
from observer.raw_message import RawMessage
from store.document import Record
from store.protocol import Changes, Reader, Store


async def history_of(store: Store, mode: str, order_id: str) -> History | None:
    """One order's history; None when the observer has no message of it. Raises StoreError."""
    histories = await histories_of(store, mode, [order_id])
    return histories[0] if histories else None


async def histories_of(store: Store, mode: str, order_ids: Collection[str]) -> list[History]:
    """The histories of those orders that the observer has messages of. Raises StoreError."""
    return await _histories(store, mode, await _records(store, order_ids))


async def history_with_messages(store: Store, mode: str, order_id: str) -> tuple[History, list[RawMessage]] | None:
    """One order's history, and the message of each entry as it was sent; None as in `history_of`. Raises StoreError."""
    found = await _records(store, [order_id])
    if not found:
        return None
    (history,) = await _histories(store, mode, found)
    observations = ObservedOrder.from_body(found[0].body).sightings
    return history, [RawMessage.from_text(observations[entry.message_id].get("original", "")) for entry in history.entries]


async def newest(store: Store, mode: str, limit: int) -> list[History]:
    """The newest orders by id, which is by age. Raises StoreError."""
    return await _histories(store, mode, await store.find(ObservedOrder.collection, None, limit))


async def open_orders(store: Store, mode: str, before: float, limit: int) -> list[History]:
    """Orders that have not ended and whose newest message is older than `before` (seconds since the epoch), the oldest first.

    Raises StoreError."""
    return await _histories(store, mode, await store.due(ObservedOrder.collection, before, limit))


async def _records(store: Store, order_ids: Collection[str]) -> list[Record]:
    async def read(reader: Reader) -> tuple[Changes, list[Record]]:
        return Changes(), list((await reader.load([ObservedOrder.key_of(order_id) for order_id in order_ids])).values())

    return await store.transact(read)


async def _histories(store: Store, mode: str, found: Sequence[Record]) -> list[History]:
    losses = [loss for record in await store.find(LossPeriods.collection) for loss in LossPeriods.from_body(record.body).all()]
    return [_history(mode, ObservedOrder.from_body(record.body), losses) for record in found]


def _history(mode: str, known: ObservedOrder, losses: Sequence[LossPeriod]) -> History:
    return build_history(MESSAGE_FLOWS[mode], known.all(), losses, cut=known.cut)
