"""Parses tables written like those of docs/protocol.md#state-tables, and formats what a handler did as a cell.

A cell is "new state, event, call", where "=" keeps the state and "-" publishes nothing; "bug" and "never" are violations of the
protocol. Reasons are letters where the table has letters (r is the command's, x the document's own; for the order, w is a
customer's withdrawal and d the deadline's), and words where the handler itself decides.
"""

from collections.abc import Mapping
from typing import Any

from broker.handler import Outcome
from broker.message import Message
from services.order.messages import WithdrawalRefused
from services.payment.gateway import GatewayCall
from services.vocabulary import ForwardEvent, OrderDetails, Reason
from store.document import Document

#: The letters of the order's table, and those of the other three. Which reasons r and x are does not matter to the handlers.
ORDER_LETTERS: Mapping[str, Reason] = {
    "r": Reason.PAYMENT_DECLINED,
    "x": Reason.OUT_OF_STOCK,
    "w": Reason.WITHDRAWN,
    "d": Reason.DEADLINE,
}
LETTERS: Mapping[str, Reason] = {"r": Reason.DEADLINE, "x": Reason.WITHDRAWN}

#: Violations of the protocol: the handler must raise ProtocolViolation.
BUGS = ("bug", "never")


def cells(table: str) -> list[tuple[str, str, str]]:
    """(row, column, cell) for every cell of a table whose first line names the columns."""
    lines = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in table.strip().splitlines()]
    (_, *columns), *rows = lines
    for label, *row in rows:
        assert len(row) == len(columns), f"row {label} has {len(row)} cells for {len(columns)} columns"
    return [(label, column, cell) for label, *row in rows for column, cell in zip(columns, row, strict=True)]


class TableFormatter:
    """Formats outcomes in the notation of one table, and checks the details that its forward events must carry."""

    def __init__(self, letters: Mapping[str, Reason], details: OrderDetails) -> None:
        self._letter_of = {reason: letter for letter, reason in letters.items()}
        self._details = details

    def outcome(self, before: Document | None, outcome: Outcome) -> str:
        """A whole outcome as a cell. Documents other than the table's (stock) are left to other tests."""
        after = next((document for document in outcome.documents if hasattr(document, "state")), before)
        unchanged = after is before or (before is not None and self.state(before) == self.state(after))
        happened = [" + ".join(self.message(message) for message in outcome.messages)]
        for call in outcome.calls:
            assert isinstance(call, GatewayCall)
            happened.append({"authorize": "ask gw", "void": "void gw"}[call.verb.value])
        return ", ".join(["=" if unchanged else self.state(after), *(filter(None, happened) if any(happened) else "-")])

    def state(self, document: Any) -> str:
        """A document's state, such as `REJECTED(x)`, `VOIDING(x, requested)`, `PENDING+w`, with a `!` if it needs attention."""
        return self._state(document) + ("!" if getattr(document, "attention", None) else "")

    def _state(self, document: Any) -> str:
        withdrawn = getattr(document, "withdrawn", None)
        if document.state == "TOMBSTONE":
            return f"tombstone({self._word(withdrawn)})"
        if document.state == "PENDING" and withdrawn:
            return f"PENDING+{self._word(withdrawn)}"
        if not document.reason:
            return str(document.state)
        requested = ", requested" if document.state == "VOIDING" and document.void_requested else ""
        return f"{document.state}({self._word(document.reason)}{requested})"

    def message(self, message: Message) -> str:
        """A message with its reason, if it has one. A forward event must carry the order's details."""
        if isinstance(message, ForwardEvent):
            assert message.details == self._details
        if isinstance(message, WithdrawalRefused):
            return f"WithdrawalRefused({message.refusal.value})"
        reason = getattr(message, "reason", None)
        return type(message).__name__ + (f"({self._word(reason)})" if reason else "")

    def _word(self, reason: Reason | None) -> str:
        return self._letter_of.get(reason, reason.value) if reason else "?"
