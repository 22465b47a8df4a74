"""Every cell of the tables of docs/protocol.md#state-tables against the real handlers.

The tables are written like those of the page, parsed by tables.py, and played with the documents and commands of cells.py. "="
keeps the state, "-" publishes nothing, "!" needs attention. What a table does not show (stock, amounts, times) is in
tests/services/test_handlers.py.
"""

import pytest

from broker.handler import ProtocolViolation
from tests.support.protocol.cells import AT_WORK, COMMANDS, GIVEN, SERVICES, TEN_YEARS_S, formatter_for, play, waits
from tests.support.protocol.tables import BUGS, cells

ORDER = """
| order                     | none                 | tombstone(w)                  | PENDING                       | PENDING+w                                               |
| PlaceOrder                | PENDING, OrderPlaced | REJECTED(w), OrderRejected(w) | =, OrderPlaced                | =, OrderPlaced                                          |
| WithdrawOrder(w)          | tombstone(w), -      | =, -                          | PENDING+w, OrderWithdrawn(w)  | =, OrderWithdrawn(w)                                    |
| WithdrawOrder(d)          | tombstone(d), -      | =, -                          | PENDING+d, OrderWithdrawn(d)  | =, OrderWithdrawn(w)                                    |
| timer at the deadline     | =, -                 | =, -                          | PENDING+d, OrderWithdrawn(d)  | =, OrderWithdrawn(w)                                    |
| timer before the deadline | =, -                 | =, -                          | =, -                          | =, -                                                    |
| CompleteOrder             | bug                  | bug                           | COMPLETED, OrderCompleted     | COMPLETED, OrderCompleted + WithdrawalRefused(too_late) |
| RejectOrder(r)            | bug                  | bug                           | REJECTED(r), OrderRejected(r) | REJECTED(w), OrderRejected(w)                           |
| MarkForAttention          | =, -                 | =, -                          | PENDING!, -                   | PENDING+w!, -                                           |
"""  # noqa: E501 - a table
ORDER_ENDS = """
| order                     | PENDING+d                     | COMPLETED                           | REJECTED(x)                         |
| PlaceOrder                | =, OrderPlaced                | =, -                                | =, -                                |
| WithdrawOrder(w)          | =, OrderWithdrawn(d)          | =, WithdrawalRefused(already_ended) | =, WithdrawalRefused(already_ended) |
| WithdrawOrder(d)          | =, OrderWithdrawn(d)          | =, WithdrawalRefused(already_ended) | =, WithdrawalRefused(already_ended) |
| timer at the deadline     | =, OrderWithdrawn(d)          | =, -                                | =, -                                |
| timer before the deadline | =, -                          | =, -                                | =, -                                |
| CompleteOrder             | COMPLETED, OrderCompleted     | =, OrderCompleted                   | never                               |
| RejectOrder(r)            | REJECTED(d), OrderRejected(d) | never                               | =, OrderRejected(x)                 |
| MarkForAttention          | PENDING+d!, -                 | =, -                                | =, -                                |
"""  # noqa: E501 - a table
INVENTORY = """
| inventory                 | none                                                | HELD                          | REJECTED(x)         | RELEASED(x)         |
| ReserveStock, enough      | HELD, StockReserved                                 | =, StockReserved              | =, StockRejected(x) | =, StockRejected(x) |
| ReserveStock, too little  | REJECTED(out_of_stock), StockRejected(out_of_stock) | =, StockReserved              | =, StockRejected(x) | =, StockRejected(x) |
| ReserveStock, no such sku | REJECTED(unknown_sku), StockRejected(unknown_sku)   | =, StockReserved              | =, StockRejected(x) | =, StockRejected(x) |
| ReserveStock, injected    | REJECTED(out_of_stock), StockRejected(out_of_stock) | =, StockReserved              | =, StockRejected(x) | =, StockRejected(x) |
| ReleaseStock(r)           | RELEASED(r), StockReleased(r)                       | RELEASED(r), StockReleased(r) | =, StockReleased(x) | =, StockReleased(x) |
"""  # noqa: E501 - a table
PAYMENT_AT_WORK = """
| payment                      | none                           | PENDING                                                       | VOIDING(x)                      | VOIDING(x, requested)         |
| AuthorizePayment             | PENDING, ask gw                | =, -                                                          | =, -                            | =, -                          |
| VoidPayment(r)               | VOIDING(r, requested), void gw | VOIDING(r, requested), void gw                                | VOIDING(x, requested), -        | =, -                          |
| gw authorized                | bug                            | AUTHORIZED, PaymentAuthorized                                 | =, -                            | =, -                          |
| gw declined                  | bug                            | DECLINED(payment_declined), PaymentDeclined(payment_declined) | =, -                            | =, -                          |
| gw voided, to authorize      | bug                            | DECLINED(payment_declined), PaymentDeclined(payment_declined) | =, -                            | =, -                          |
| gw pending                   | bug                            | =, -                                                          | =, -                            | =, -                          |
| gw in doubt, to authorize    | bug                            | =, -                                                          | =, -                            | =, -                          |
| gw in doubt, to void         | bug                            | =, -                                                          | =, -                            | =, -                          |
| timer at due_at              | =, -                           | =, ask gw                                                     | =, void gw                      | =, void gw                    |
| timer before due_at          | =, -                           | =, -                                                          | =, -                            | =, -                          |
| timer, authorization timeout | =, -                           | VOIDING(payment_timeout), void gw                             | =, void gw                      | =, void gw                    |
| timer, escalation due        | =, -                           | VOIDING(payment_timeout), void gw                             | =, PaymentStepFailed, void gw   | =, PaymentStepFailed, void gw |
| gw voided, to void           | bug                            | =, -                                                          | DECLINED(x), PaymentDeclined(x) | VOIDED(x), PaymentVoided(x)   |
"""  # noqa: E501 - a table
PAYMENT_AT_REST = """
| payment                      | AUTHORIZED                     | DECLINED(x)           | VOIDED(x)             |
| AuthorizePayment             | =, PaymentAuthorized           | =, PaymentDeclined(x) | =, PaymentDeclined(x) |
| VoidPayment(r)               | VOIDING(r, requested), void gw | =, PaymentVoided(x)   | =, PaymentVoided(x)   |
| gw authorized                | =, -                           | =, -                  | =, -                  |
| gw declined                  | =, -                           | =, -                  | =, -                  |
| gw voided, to authorize      | =, -                           | =, -                  | =, -                  |
| gw pending                   | =, -                           | =, -                  | =, -                  |
| gw in doubt, to authorize    | =, -                           | =, -                  | =, -                  |
| gw in doubt, to void         | =, -                           | =, -                  | =, -                  |
| timer at due_at              | =, -                           | =, -                  | =, -                  |
| timer before due_at          | =, -                           | =, -                  | =, -                  |
| timer, authorization timeout | =, -                           | =, -                  | =, -                  |
| timer, escalation due        | =, -                           | =, -                  | =, -                  |
| gw voided, to void           | =, -                           | =, -                  | =, -                  |
"""
DELIVERY = """
| delivery                   | none                                                     | SCHEDULED            | REJECTED(x)             | CANCELLED(x)            |
| ScheduleDelivery, served   | SCHEDULED, DeliveryScheduled                             | =, DeliveryScheduled | =, DeliveryRejected(x)  | =, DeliveryRejected(x)  |
| ScheduleDelivery, unserved | REJECTED(undeliverable), DeliveryRejected(undeliverable) | =, DeliveryScheduled | =, DeliveryRejected(x)  | =, DeliveryRejected(x)  |
| ScheduleDelivery, injected | REJECTED(undeliverable), DeliveryRejected(undeliverable) | =, DeliveryScheduled | =, DeliveryRejected(x)  | =, DeliveryRejected(x)  |
| CancelDelivery(r)          | CANCELLED(r), DeliveryCancelled(r)                       | =, DeliveryScheduled | =, DeliveryCancelled(x) | =, DeliveryCancelled(x) |
"""  # noqa: E501 - a table
TABLES = {
    "order": (ORDER, ORDER_ENDS),
    "inventory": (INVENTORY,),
    "payment": (PAYMENT_AT_WORK, PAYMENT_AT_REST),
    "delivery": (DELIVERY,),
}

ALL_CELLS = [
    pytest.param(service, *cell, id=f"{cell[0]} x {cell[1]}")
    for service, tables in TABLES.items()
    for table in tables
    for cell in cells(table)
]


@pytest.mark.parametrize(("service", "row", "column", "cell"), ALL_CELLS)
def test_a_handler_follows_its_cell_of_the_table(service: str, row: str, column: str, cell: str) -> None:
    given = GIVEN[service][column]
    if cell in BUGS:
        with pytest.raises(ProtocolViolation):
            play(row, given)
        return
    outcome = play(row, given)
    assert formatter_for(service, row).outcome(given, outcome) == cell
    for document in outcome.documents:
        assert type(document).from_body(document.to_body()) == document, "it is not read from the store as it was written"
        assert waits(document) == (getattr(document, "state", "") in AT_WORK), "it waits if and only if its state is at work"


@pytest.mark.parametrize(
    ("service", "row", "column", "cell"),
    [cell for cell in ALL_CELLS if cell.values[2] in ("tombstone(w)", "RELEASED(x)", "VOIDED(x)", "CANCELLED(x)")],
)
def test_a_tombstone_answers_the_same_after_ten_years(service: str, row: str, column: str, cell: str) -> None:
    given = GIVEN[service][column]
    assert given is not None
    assert not waits(given), "no timer fires for it"
    if cell in BUGS:
        with pytest.raises(ProtocolViolation):
            play(row, given, later_s=TEN_YEARS_S)
    else:
        assert formatter_for(service, row).outcome(given, play(row, given, later_s=TEN_YEARS_S)) == cell


def test_the_tables_cover_every_command_in_every_state() -> None:
    for service, tables in TABLES.items():
        covered = {(type(COMMANDS[row]), column) for table in tables for row, column, _ in cells(table)}
        assert covered == {(kind, column) for kind in SERVICES[service].handlers for column in GIVEN[service]}
