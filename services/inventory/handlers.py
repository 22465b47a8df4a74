"""What the inventory service does with each command. The table of protocol.md section 3, row by row.

Pure functions of (command, documents, context); neither mode is known here.
"""

from collections.abc import Iterable, Mapping

from broker.handler import Context, Documents, Handler, Outcome
from broker.message import Message
from broker.role import Service
from services.inventory.domain import Reservation, ReservationState, Stock, refusal_of
from services.inventory.messages import (
    FAULTS,
    InventoryStuck,
    ReleaseStock,
    ReserveStock,
    StockRejected,
    StockReleased,
    StockReserved,
)
from services.vocabulary import Reason
from store.document import Key


def reservation_and_its_stock(command: ReserveStock, _: Documents) -> Iterable[Key]:
    yield Reservation.key_of(command.order_id)
    yield from (Stock.key_of(sku) for sku in command.details.quantities())


def reservation_and_what_it_holds(command: ReleaseStock, found: Documents) -> Iterable[Key]:
    """The reservation says which stock it holds, so that is known only once it was read."""
    yield Reservation.key_of(command.order_id)
    reservation = found.peek(Reservation, command.order_id)
    if reservation:
        yield from (Stock.key_of(sku) for sku in reservation.quantities)


def reserve_stock(command: ReserveStock, found: Documents, context: Context) -> Outcome:
    """Hold all lines or none. Asked again, it answers with what holds now and never decides anew."""
    reservation = found.get(Reservation, command.order_id)
    if reservation is None:
        return _decide(command, found, context)
    if reservation.state is ReservationState.HELD:
        return Outcome(messages=(StockReserved.drawn_from(command),))
    return Outcome(messages=(StockRejected(order_id=command.order_id, reason=reservation.reason or Reason.OUT_OF_STOCK),))


def _decide(command: ReserveStock, found: Documents, context: Context) -> Outcome:
    wanted = command.details.quantities()
    stock = {sku: found.get(Stock, sku) for sku in wanted}
    refusal = Reason.OUT_OF_STOCK if context.injected == Reason.OUT_OF_STOCK else refusal_of(wanted, stock)
    if refusal:
        rejected = Reservation(order_id=command.order_id, state=ReservationState.REJECTED, reason=refusal)
        return Outcome((rejected,), (StockRejected(order_id=command.order_id, reason=refusal),))
    held = Reservation(order_id=command.order_id, state=ReservationState.HELD, quantities=wanted)
    moved = tuple(article.hold(wanted[sku]) for sku, article in stock.items() if article)
    return Outcome((held, *moved), (StockReserved.drawn_from(command),))


def release_stock(command: ReleaseStock, found: Documents, _: Context) -> Outcome:
    """Give back what is held; before its step, leave a tombstone; in any case answer StockReleased."""
    reservation = found.get(Reservation, command.order_id)
    if reservation is None:
        tombstone = Reservation(order_id=command.order_id, state=ReservationState.RELEASED, reason=command.reason)
        return Outcome((tombstone,), (StockReleased.drawn_from(command),))
    if reservation.state is ReservationState.HELD:
        stock = {sku: found.get(Stock, sku) for sku in reservation.quantities}
        moved = tuple(article.release(reservation.quantities[sku]) for sku, article in stock.items() if article)
        released = reservation.but(state=ReservationState.RELEASED, reason=command.reason)
        return Outcome((released, *moved), (StockReleased.drawn_from(command),))
    return Outcome(messages=(StockReleased(order_id=command.order_id, reason=reservation.reason or command.reason),))


def inventory_service() -> Service:
    """The inventory service. Its replicas take turns: all of them write the same stock documents."""
    handlers: Mapping[type[Message], Handler] = {
        ReserveStock: Handler(reservation_and_its_stock, reserve_stock),
        ReleaseStock: Handler(reservation_and_what_it_holds, release_stock, compensates=True),
    }
    return Service("inventory", handlers, single_active=True, faults=FAULTS, gives_up=InventoryStuck.about)
