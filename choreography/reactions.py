"""The reactions: what each service does when an event arrives. Together they are the choreography's whole sequence.

Read a row as "when this happens, this service does that". Above the line the order goes forward. Below it everything is undone in
reverse: the rollback events form a chain, so an order is rejected only after everything it held has been released. A withdrawal
enters at the pivot and only there, because no service knows how far the order got, and then runs down the same chain. If the
pivot has been passed, CancelDelivery is answered by DeliveryScheduled and the order goes forward.
"""

from choreography.reaction import Reaction
from services.delivery.messages import CancelDelivery, DeliveryCancelled, DeliveryRejected, DeliveryScheduled, ScheduleDelivery
from services.inventory.messages import ReleaseStock, ReserveStock, StockRejected, StockReleased, StockReserved
from services.order.messages import CompleteOrder, OrderPlaced, OrderWithdrawn, RejectOrder
from services.payment.messages import AuthorizePayment, PaymentAuthorized, PaymentDeclined, PaymentVoided, VoidPayment

# fmt: off
REACTIONS = (
    Reaction(when=OrderPlaced,       by="inventory", does=ReserveStock),
    Reaction(when=StockReserved,     by="payment",   does=AuthorizePayment),
    Reaction(when=PaymentAuthorized, by="delivery",  does=ScheduleDelivery),
    Reaction(when=DeliveryScheduled, by="order",     does=CompleteOrder),
    # ------------------------------------------------------------------
    Reaction(when=StockRejected,     by="order",     does=RejectOrder),
    Reaction(when=PaymentDeclined,   by="inventory", does=ReleaseStock),
    Reaction(when=DeliveryRejected,  by="payment",   does=VoidPayment),
    Reaction(when=OrderWithdrawn,    by="delivery",  does=CancelDelivery),
    Reaction(when=DeliveryCancelled, by="payment",   does=VoidPayment),
    Reaction(when=PaymentVoided,     by="inventory", does=ReleaseStock),
    Reaction(when=StockReleased,     by="order",     does=RejectOrder),
)
