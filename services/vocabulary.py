"""The words every service shares: order lines, money, an address, and the reasons an order may be refused for.

No logic; the one module that all four services import. Amounts are integer cents with a currency, quantities
positive integers. Everything is bounded, so that what passes here cannot break a database later.
"""

from enum import StrEnum
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from broker.message import Command, Event, Message


class Reason(StrEnum):
    """Why an order was not, or will not be, completed. The same words on the wire, in documents, in the CLI and in reports."""

    OUT_OF_STOCK = "out_of_stock"  # inventory: less available than asked
    UNKNOWN_SKU = "unknown_sku"  # inventory: no such article
    PAYMENT_DECLINED = "payment_declined"  # the payment gateway said no
    PAYMENT_TIMEOUT = "payment_timeout"  # the payment gateway gave no final answer within payment's patience
    UNDELIVERABLE = "undeliverable"  # delivery: nobody drives there
    WITHDRAWN = "withdrawn"  # the customer took the order back before the pivot
    DEADLINE = "deadline"  # the order's own deadline passed before the pivot


#: What an order is called that nothing will move without help, in place of PENDING: wherever people or programs read its state.
NEEDS_ATTENTION = "NEEDS_ATTENTION"

#: Largest values that are surely safe in JSON, BSON (64 bit) and a sum over a long run.
MAX_CENTS = 10**12
MAX_QUANTITY = 10**6
MAX_LINES = 50

Sku = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]
Text = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]{1,200}$")]


class ValueObject(BaseModel):
    """Base of the values inside a message or a document."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Line(ValueObject):
    """One article of an order and how many of it."""

    sku: Sku
    quantity: Annotated[int, Field(ge=1, le=MAX_QUANTITY)]


class DeliveryAddress(ValueObject):
    """Where to deliver."""

    name: Text
    street: Text
    postcode: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9 -]{2,12}$")]
    country: Annotated[str, StringConstraints(pattern=r"^[A-Z]{2}$")]


class OrderDetails(ValueObject):
    """What every step needs to know of an order. It rides on every forward message, in both modes: stamp coupling, measured."""

    lines: Annotated[tuple[Line, ...], Field(min_length=1, max_length=MAX_LINES, strict=False)]
    total_cents: Annotated[int, Field(ge=0, le=MAX_CENTS)]
    currency: Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")]
    address: DeliveryAddress

    def quantities(self) -> dict[str, int]:
        """How many of each SKU, several lines of one SKU added up."""
        wanted: dict[str, int] = {}
        for line in self.lines:
            wanted[line.sku] = wanted.get(line.sku, 0) + line.quantity
        return wanted


class ForwardCommand(Command):
    """A command on the way to completion: carries the order's details."""

    details: OrderDetails


class ForwardEvent(Event):
    """A success on the way to completion: carries the order's details."""

    details: OrderDetails


class BackwardCommand(Command):
    """A compensation, a withdrawal or a rejection: carries its reason."""

    reason: Reason


class BackwardEvent(Event):
    """A refusal or a rollback: carries its reason."""

    reason: Reason


class StepFailed(Event):
    """A compensation, or a step after the pivot, has used up its budget: this order cannot end without help.

    `step` names the command that failed, `error` says how, for people."""

    step: Text
    error: Text

    @classmethod
    def from_command(cls, command: Message, error: str) -> Self:
        """What is said when `command` has failed for good."""
        return cls(order_id=command.order_id, step=type(command).__name__, error=printable(error))


class Attention(BaseModel):
    """What somebody has to look at, kept with the order (or its saga) until it moves again."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    step: str
    error: str


def printable(text: str) -> str:
    """`text` as a message may carry it: one line, not empty, cut to length."""
    plain = "".join(letter if letter.isprintable() else " " for letter in text)
    return plain[:200].strip() or "no text"
