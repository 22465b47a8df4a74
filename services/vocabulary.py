"""The types that all four services share: order details, reasons, states, base classes of messages, and what escalation needs.

Amounts are integer cents with a currency, quantities are positive integers. Every value is bounded, so that a message that
passes validation cannot be refused by a database later.
"""

from enum import StrEnum
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from broker.message import Command, Event, Message


class Reason(StrEnum):
    """Why an order was not, or will not be, completed. The same values on the wire, in documents, in the CLI and in reports."""

    OUT_OF_STOCK = "out_of_stock"  # inventory: less is available than requested
    UNKNOWN_SKU = "unknown_sku"  # inventory: there is no such article
    PAYMENT_DECLINED = "payment_declined"  # the payment gateway declined
    PAYMENT_TIMEOUT = "payment_timeout"  # the payment gateway gave no final answer within the authorization timeout
    UNDELIVERABLE = "undeliverable"  # delivery: the address is not served
    WITHDRAWN = "withdrawn"  # the customer took the order back before the pivot
    DEADLINE = "deadline"  # the order's own deadline passed before the pivot


# The states that the order service stores, `OrderState` in services/order/domain.py, take their values from here.
class ObservedState(StrEnum):
    """Where an order stands, as far as its messages show."""

    ACCEPTED = "ACCEPTED"  # requested; no event of it yet
    PENDING = "PENDING"  # placed; the saga is at work
    NEEDS_ATTENTION = "NEEDS_ATTENTION"  # a step that must not fail has exhausted its retry budget, and nothing has moved since
    COMPLETED = "COMPLETED"  # the end
    REJECTED = "REJECTED"  # the end, with its reason

    @property
    def ended(self) -> bool:
        return self in (ObservedState.COMPLETED, ObservedState.REJECTED)


#: The state that is shown in place of PENDING for an order that does not move without an operator.
NEEDS_ATTENTION = ObservedState.NEEDS_ATTENTION.value

#: Largest values; safe in JSON, in BSON (64 bit) and in a sum over a long run.
MAX_CENTS = 10**12
MAX_QUANTITY = 10**6
MAX_LINES = 50

Sku = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]
Text = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]{1,200}$")]


class ValueObject(BaseModel):
    """Base class of the values inside a message or a document."""

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
    """What every step needs to know of an order. Every forward message carries it, in both modes (stamp coupling)."""

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
    """A compensation, or a step after the pivot, has exhausted its retry budget: this order cannot end without an operator.

    `step` is the name of the command that failed, `error` a description for people."""

    step: Text
    error: Text

    @classmethod
    def from_command(cls, command: Message, error: str) -> Self:
        """The event that reports that `command` has exhausted its retry budget."""
        return cls(order_id=command.order_id, step=type(command).__name__, error=printable(error))


class Attention(BaseModel):
    """Why an order needs an operator: stored with the order (or with its saga run) until it moves again."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    step: str
    error: str


def printable(text: str) -> str:
    """`text` in the form that a message may carry: one line, not empty, at most 200 characters."""
    plain = "".join(letter if letter.isprintable() else " " for letter in text)
    return plain[:200].strip() or "no text"
