"""The saga of an order: the whole sequence in one place.

Read it top to bottom. Each step sends a command and waits for its event. On a refusal the steps before it are undone in reverse,
then the order is rejected. On a withdrawal or at the deadline the step that is waited for is undone too, because it may have
taken effect. At the pivot CancelDelivery decides: if it is answered by DeliveryScheduled, the saga goes forward. After the pivot
nothing is undone: the remaining steps are retriable.
"""

from orchestrator.saga import Saga, Step
from services.delivery.messages import CancelDelivery, DeliveryCancelled, DeliveryRejected, DeliveryScheduled, ScheduleDelivery
from services.inventory.messages import ReleaseStock, ReserveStock, StockRejected, StockReleased, StockReserved
from services.order.messages import CompleteOrder, OrderCompleted, OrderPlaced, OrderRejected, OrderWithdrawn, RejectOrder
from services.payment.messages import AuthorizePayment, PaymentAuthorized, PaymentDeclined, PaymentVoided, VoidPayment

# fmt: off
FULFILMENT = Saga(
    begins=OrderPlaced,
    withdrawn=OrderWithdrawn,
    steps=(
        Step(ReserveStock,     StockReserved,     refused=StockRejected,    undo=ReleaseStock,   undone=StockReleased),
        Step(AuthorizePayment, PaymentAuthorized, refused=PaymentDeclined,  undo=VoidPayment,    undone=PaymentVoided),
        Step(ScheduleDelivery, DeliveryScheduled, refused=DeliveryRejected, undo=CancelDelivery, undone=DeliveryCancelled,
             pivot=True),
        Step(CompleteOrder,    OrderCompleted,    retriable=True),
    ),
    rejects=RejectOrder,
    rejected=OrderRejected,
)
