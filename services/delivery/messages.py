"""The delivery service's messages: the one module of the service that other rooms may import."""

from services.vocabulary import BackwardCommand, BackwardEvent, ForwardCommand, ForwardEvent, StepFailed

#: The business faults that this service shows when they are injected with an order.
FAULTS = frozenset({"undeliverable"})


class ScheduleDelivery(ForwardCommand, service="delivery"):
    """The pivot: once scheduled, the order goes forward whatever else arrives."""


class CancelDelivery(BackwardCommand, service="delivery"):
    """Bar the pivot: DeliveryCancelled if it comes before ScheduleDelivery is handled, DeliveryScheduled if it is too late."""


class DeliveryScheduled(ForwardEvent, service="delivery"):
    """The delivery is final."""


class DeliveryRejected(BackwardEvent, service="delivery"):
    """Nobody delivers there, or it was cancelled before it was asked."""


class DeliveryCancelled(BackwardEvent, service="delivery"):
    """There is no delivery for this order and never will be."""


class DeliveryStepFailed(StepFailed, service="delivery"):
    """Something that must not fail has failed for good here, for this order: NEEDS_ATTENTION."""
