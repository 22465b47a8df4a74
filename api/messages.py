"""The API worker's inputs: customers' requests, and the events of a mode that it consumes.

The requests are local inputs and never on the wire. The API publishes the order service's PlaceOrder and WithdrawOrder.
"""

from collections.abc import Sequence

from broker.codec import Origin
from broker.message import Event, Message, Uuid
from services.message_types import API_NAME, CATALOGUE
from services.vocabulary import OrderDetails

#: The API's name as a worker.
NAME = API_NAME
#: Seconds that a request waits for its commit. After that it is in doubt; the same request with the same key settles it.
COMMIT_TIMEOUT_S = 5.0


class AcceptOrder(Message, service=NAME):
    """A customer places an order under an idempotency key.

    `order_id` is the order's id if the key is new. `fingerprint` is a hash of the whole request."""

    request_id: Uuid
    key: str
    fingerprint: str
    details: OrderDetails


class RequestWithdrawal(Message, service=NAME):
    """A customer withdraws an order."""

    request_id: Uuid


#: Every event of the four services.
EVENTS = tuple(kind for kind in CATALOGUE.values() if issubclass(kind, Event))


def origin_of(order_id: str, injected: Sequence[str] = ()) -> Origin:
    """The origin of every message of an order: a new trace, and the failures injected with the order."""
    trace = order_id.replace("-", "")
    return Origin(traceparent=f"00-{trace}-{trace[16:]}-01", injected=",".join(injected) or None)
