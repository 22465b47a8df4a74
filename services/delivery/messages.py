"""Messages of the delivery service: the commands it accepts, the events it publishes, and the faults it can show.

ScheduleDelivery is the pivot of the order. CancelDelivery is its compensation and the only one that can come too late: it is
then answered by DeliveryScheduled.
"""

from services.vocabulary import BackwardCommand, BackwardEvent, ForwardCommand, ForwardEvent, StepFailed

#: The business faults that can be injected into this service with an order.
FAULTS = frozenset({"undeliverable"})


class ScheduleDelivery(ForwardCommand, service="delivery"):
    """The pivot: once the delivery is scheduled, the order goes forward, whatever else arrives."""


class CancelDelivery(BackwardCommand, service="delivery"):
    """Bar the pivot. Answered by DeliveryCancelled before ScheduleDelivery was handled, by DeliveryScheduled after it."""


class DeliveryScheduled(ForwardEvent, service="delivery"):
    """The delivery is final."""


class DeliveryRejected(BackwardEvent, service="delivery"):
    """The address is not served, or the delivery was cancelled before it was requested."""


class DeliveryCancelled(BackwardEvent, service="delivery"):
    """There is no delivery for this order and never will be."""


class DeliveryStepFailed(StepFailed, service="delivery"):
    """A command that must not fail has exhausted its retry budget at the delivery service: the order needs attention."""
