"""Handlers of the inventory service: the table of docs/protocol.md#inventory as pure functions.

A handler takes the command, the documents it declared and the context, and returns an outcome. It knows neither mode.
"""

from collections.abc import Iterable, Mapping

from broker.handler import Context, Documents, Handler, Outcome
from broker.message import Message
from broker.role import Service
from services.inventory.domain import Reservation, ReservationState, Stock, refusal_of
from services.inventory.messages import (
    FAULTS,
    InventoryStepFailed,
    ReleaseStock,
    ReserveStock,
    StockRejected,
    StockReleased,
    StockReserved,
)
from services.vocabulary import Reason
from store.document import Key


def reservation_and_stock_keys(command: ReserveStock, _: Documents) -> Iterable[Key]:
    yield Reservation.key_of(command.order_id)
    yield from (Stock.key_of(sku) for sku in command.details.quantities())


def reservation_and_held_stock_keys(command: ReleaseStock, documents: Documents) -> Iterable[Key]:
    """The reservation, and the stock that it holds: the second is known only once the reservation has been loaded."""
    yield Reservation.key_of(command.order_id)
    reservation = documents.get_if_loaded(Reservation, command.order_id)
    if reservation:
        yield from (Stock.key_of(sku) for sku in reservation.quantities)


def reserve_stock(command: ReserveStock, documents: Documents, context: Context) -> Outcome:
    """Hold all lines or none, once. A repeated command is answered with the stored result and not decided again."""
    reservation = documents.get(Reservation, command.order_id)
    if reservation is None:
        return _decide(command, documents, context)
    if reservation.state is ReservationState.HELD:
        return Outcome(messages=(StockReserved.from_source(command),))
    return Outcome(messages=(StockRejected(order_id=command.order_id, reason=reservation.reason or Reason.OUT_OF_STOCK),))


def _decide(command: ReserveStock, documents: Documents, context: Context) -> Outcome:
    wanted = command.details.quantities()
    stock = {sku: documents.get(Stock, sku) for sku in wanted}
    refusal = Reason.OUT_OF_STOCK if context.injected == Reason.OUT_OF_STOCK else refusal_of(wanted, stock)
    if refusal:
        rejected = Reservation(order_id=command.order_id, state=ReservationState.REJECTED, reason=refusal)
        return Outcome((rejected,), (StockRejected(order_id=command.order_id, reason=refusal),))
    held = Reservation(order_id=command.order_id, state=ReservationState.HELD, quantities=wanted)
    updated = tuple(article.hold(wanted[sku]) for sku, article in stock.items() if article)
    return Outcome((held, *updated), (StockReserved.from_source(command),))


def release_stock(command: ReleaseStock, documents: Documents, _: Context) -> Outcome:
    """Release what is held, or leave a tombstone if the step has not come yet. Always answered by StockReleased."""
    reservation = documents.get(Reservation, command.order_id)
    if reservation is None:
        tombstone = Reservation(order_id=command.order_id, state=ReservationState.RELEASED, reason=command.reason)
        return Outcome((tombstone,), (StockReleased.from_source(command),))
    if reservation.state is ReservationState.HELD:
        stock = {sku: documents.get(Stock, sku) for sku in reservation.quantities}
        updated = tuple(article.release(reservation.quantities[sku]) for sku, article in stock.items() if article)
        released = reservation.copy_with(state=ReservationState.RELEASED, reason=command.reason)
        return Outcome((released, *updated), (StockReleased.from_source(command),))
    return Outcome(messages=(StockReleased(order_id=command.order_id, reason=reservation.reason or command.reason),))


def inventory_service() -> Service:
    """Build the inventory service. One replica at a time is active, because all of them write the same stock documents."""
    handlers: Mapping[type[Message], Handler] = {
        ReserveStock: Handler(reservation_and_stock_keys, reserve_stock),
        ReleaseStock: Handler(reservation_and_held_stock_keys, release_stock, must_not_fail=True),
    }
    return Service("inventory", handlers, single_active=True, faults=FAULTS, on_exhausted=InventoryStepFailed.from_command)
