"""A snapshot of everything stored: the services' databases, the saga runs, the gateway's books and the faults that acted.

For the CLI, the dashboard and the lab. A service never reads another service's database.
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
from services.message_types import DELIVERY, INVENTORY, ORDER, PAYMENT
from services.order.domain import Order
from services.payment.domain import Payment
from store.document import Document
from store.protocol import Store

D = TypeVar("D", bound=Document)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Documents by id. The databases are read one after the other, so only documents at rest are consistent with each other."""

    orders: Mapping[str, Order] = field(default_factory=dict)
    stock: Mapping[str, Stock] = field(default_factory=dict)
    reservations: Mapping[str, Reservation] = field(default_factory=dict)
    payments: Mapping[str, Payment] = field(default_factory=dict)
    deliveries: Mapping[str, OrderDelivery] = field(default_factory=dict)
    #: Empty in choreography, which has no coordinator.
    sagas: Mapping[str, SagaRun] = field(default_factory=dict)
    books: Mapping[str, BookEntry] = field(default_factory=dict)
    #: Injected fault (`payment:declined`) -> the orders on which it acted, at a worker or at the gateway.
    triggered_faults: Mapping[str, frozenset[str]] = field(default_factory=dict)


async def take_snapshot(stores: Mapping[str, Store], books: GatewayBooks) -> Snapshot:
    """Read every database in `stores` (by worker name). Raises StoreError."""
    coordinator = stores.get(COORDINATOR)
    return Snapshot(
        orders=await _all(stores[ORDER], Order),
        stock=await _all(stores[INVENTORY], Stock),
        reservations=await _all(stores[INVENTORY], Reservation),
        payments=await _all(stores[PAYMENT], Payment),
        deliveries=await _all(stores[DELIVERY], OrderDelivery),
        sagas=await _all(coordinator, SagaRun) if coordinator else {},
        books=books.payments,
        triggered_faults=await _triggered_faults(stores)
        | {f"{PAYMENT}:{fault}": frozenset(keys) for fault, keys in books.triggered_faults.items()},
    )


async def _all(store: Store, kind: type[D]) -> dict[str, D]:
    return {record.document_id: kind.from_body(record.body) for record in await store.find(kind.collection)}


async def _triggered_faults(stores: Mapping[str, Store]) -> dict[str, frozenset[str]]:
    triggered_faults: dict[str, set[str]] = {}
    for store in stores.values():
        for note in await store.find(INJECTED_COLLECTION):
            triggered_faults.setdefault(str(note.body["failure"]), set()).add(note.document_id.split(":")[0])
    return {fault: frozenset(order_ids) for fault, order_ids in triggered_faults.items()}
