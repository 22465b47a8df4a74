"""A harness for one real handler: documents in a dictionary, a fixed clock, and an order to use in tests.

A whole mode with messages in flight is in world.py.
"""

from collections.abc import Mapping

from broker.handler import Context, Documents, Handler, Outcome
from broker.message import Message
from services.payment.domain import PaymentTimeouts
from services.timeouts import Timeouts
from services.vocabulary import DeliveryAddress, Line, OrderDetails
from store.document import Document, Key

#: Seconds since the epoch; its value does not matter to any handler.
NOW = 1_000.0
#: The authorization timeout is long compared with the poll interval, so that a payment can be polled often before it.
TIMES = Timeouts(
    deadline_s=5_000.0, payment=PaymentTimeouts(poll_interval_s=1.0, authorize_timeout_s=1_000.0, escalate_after_s=2_000.0)
)

ADDRESS = DeliveryAddress(name="Ada", street="Main Street 1", postcode="12345", country="DE")
UNSERVED_ADDRESS = ADDRESS.model_copy(update={"country": "AQ"})


def order_id(number: int) -> str:
    return f"00000000-0000-7000-8000-{number:012x}"


def details(lines: Mapping[str, int], *, served: bool = True) -> OrderDetails:
    """An order of `lines` (SKU -> quantity), at 10.00 a piece."""
    return OrderDetails(
        lines=tuple(Line(sku=sku, quantity=quantity) for sku, quantity in lines.items()),
        total_cents=1_000 * sum(lines.values()),
        currency="EUR",
        address=ADDRESS if served else UNSERVED_ADDRESS,
    )


def decide(
    handler: Handler, command: Message, stored: Mapping[Key, Document], *, now: float = NOW, injected: str | None = None
) -> Outcome:
    """Run one handler: load the keys it requires until it requires no more, then handle. It may write only what it has read."""
    found = Documents()
    while missing := found.not_loaded(handler.required_keys(command, found)):
        found.add(missing, {})
        for key in missing & stored.keys():
            found.put(stored[key])
    outcome = handler.handle(command, found, Context(now, injected))
    assert not found.not_loaded(document.key for document in outcome.documents), "a handler wrote what it had not read"
    return outcome
