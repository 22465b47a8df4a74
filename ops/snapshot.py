"""Everything that is stored now: four databases, the sagas, the gateway's books, and which failures acted.

Only instruments look at all databases at once; no service ever does.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from bootstrap.backend import BookEntry, GatewayBooks
from broker.loop.fault_injection import INJECTED_COLLECTION
from orchestrator.coordinator import NAME as COORDINATOR
from orchestrator.saga import SagaRun
from services.delivery.domain import OrderDelivery
from services.inventory.domain import Reservation, Stock
from services.order.domain import Order
from services.payment.domain import Payment
from store.document import Document
from store.protocol import Store

D = TypeVar("D", bound=Document)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Documents by id. Taken one database after the other, so only what has come to rest fits together exactly."""

    orders: Mapping[str, Order] = field(default_factory=dict)
    stock: Mapping[str, Stock] = field(default_factory=dict)
    reservations: Mapping[str, Reservation] = field(default_factory=dict)
    payments: Mapping[str, Payment] = field(default_factory=dict)
    deliveries: Mapping[str, OrderDelivery] = field(default_factory=dict)
    #: Empty in choreography: nobody there knows the sequence.
    sagas: Mapping[str, SagaRun] = field(default_factory=dict)
    books: Mapping[str, BookEntry] = field(default_factory=dict)
    #: Injected failure (`payment:declined`) -> the orders on which it acted, wherever it did.
    triggered_faults: Mapping[str, frozenset[str]] = field(default_factory=dict)


async def take_snapshot(stores: Mapping[str, Store], books: GatewayBooks) -> Snapshot:
    """Read every database in `stores` (by worker name)."""
    coordinator = stores.get(COORDINATOR)
    return Snapshot(
        orders=await _all(stores["order"], Order),
        stock=await _all(stores["inventory"], Stock),
        reservations=await _all(stores["inventory"], Reservation),
        payments=await _all(stores["payment"], Payment),
        deliveries=await _all(stores["delivery"], OrderDelivery),
        sagas=await _all(coordinator, SagaRun) if coordinator else {},
        books=books.payments,
        triggered_faults=await _triggered_faults(stores)
        | {f"payment:{failure}": frozenset(keys) for failure, keys in books.triggered_faults.items()},
    )


async def _all(store: Store, kind: type[D]) -> dict[str, D]:
    return {record.document_id: kind.from_body(record.body) for record in await store.find(kind.collection)}


async def _triggered_faults(stores: Mapping[str, Store]) -> dict[str, frozenset[str]]:
    triggered_faults: dict[str, set[str]] = {}
    for store in stores.values():
        for note in await store.find(INJECTED_COLLECTION):
            triggered_faults.setdefault(str(note.body["failure"]), set()).add(note.document_id.split(":")[0])
    return {failure: frozenset(orders) for failure, orders in triggered_faults.items()}
