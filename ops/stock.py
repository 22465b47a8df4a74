"""Reads and changes the stock in the inventory service's database, for operators and the lab.

A change is an ordinary versioned commit, so it is safe while workers run.
"""

from collections.abc import Callable, Mapping

from services.inventory.domain import Stock
from store.document import Record
from store.protocol import Changes, Reader, Store

#: The units to book in, from the article as stored and the requested number. Negative books out.
StockChange = Callable[[Stock, int], int]


async def read_stock(store: Store) -> dict[str, Stock]:
    """Every article by SKU. Raises StoreError."""
    return {record.document_id: Stock.from_body(record.body) for record in await store.find(Stock.collection)}


async def set_available(store: Store, quantities: Mapping[str, int]) -> dict[str, Stock]:
    """Book units in or out so that each SKU in `quantities` has that many available.

    The difference is booked as received, so the audit still adds up. Returns the articles as stored. Raises StoreError."""
    return await _change_stock(store, quantities, lambda article, units: units - article.available)


async def top_up(store: Store, minimum: Mapping[str, int]) -> dict[str, Stock]:
    """Book units in for each SKU that has fewer than `minimum` available. Returns the articles as stored. Raises StoreError."""
    return await _change_stock(store, minimum, lambda article, units: max(0, units - article.available))


async def _change_stock(store: Store, quantities: Mapping[str, int], change: StockChange) -> dict[str, Stock]:
    keys = {Stock.key_of(sku) for sku in quantities}

    async def work(reader: Reader) -> tuple[Changes, dict[str, Stock]]:
        found = await reader.load(keys)
        articles, records = {}, []
        for sku, units in quantities.items():
            record = found.get(Stock.key_of(sku))
            article = Stock.from_body(record.body) if record else Stock(sku=sku)
            articles[sku] = article.receive(change(article, units))
            records.append(Record(Stock.collection, sku, (record.version if record else 0) + 1, articles[sku].to_body()))
        return Changes(records), articles

    return await store.transact(work)
