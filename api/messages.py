"""What is asked at the door, as local inputs of its worker, and the events of a mode that the door hears.

Nothing here travels: what the door sends are the order service's own PlaceOrder and WithdrawOrder.
"""

from collections.abc import Sequence

from broker.codec import Origin
from broker.message import Event, Message, Uuid
from services.message_types import CATALOGUE
from services.vocabulary import OrderDetails

#: The door's name as a worker, as the sender of its messages, and of its queue and database.
NAME = "door"


class AcceptOrder(Message, service=NAME):
    """A customer hands in an order under a key. `order_id` is its id if the key is new; `fingerprint` stands for all of it."""

    request_id: Uuid
    key: str
    fingerprint: str
    details: OrderDetails


class RequestWithdrawal(Message, service=NAME):
    """A customer wants an order back."""

    request_id: Uuid


#: Every event of the four services.
EVENTS = tuple(kind for kind in CATALOGUE.values() if issubclass(kind, Event))


def origin_of(order_id: str, injected: Sequence[str] = ()) -> Origin:
    """The beginning of everything that happens for an order: a new trace, and the failures that were asked for with it."""
    trace = order_id.replace("-", "")
    return Origin(traceparent=f"00-{trace}-{trace[16:]}-01", injected=",".join(injected) or None)
