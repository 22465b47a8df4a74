"""The saga: what follows what when an order is placed, told by one mind.

Read it top to bottom. Each step sends a command and waits for its event. On a refusal the steps before it
are undone in reverse, then the order is rejected. Withdrawn or overdue, the step asked for is undone too, because its answer is
in doubt; at the pivot CancelDelivery decides, and its answer DeliveryScheduled sends the saga forward. After the pivot nothing
is undone: what is left is retriable.
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
