"""Rules R4 and R5 of docs/protocol.md#rules removed: coordinators that do not follow them.

Each function replaces `advance`; C6 and C7 are counterexamples of docs/protocol.md#counterexamples.
"""

from broker.message import Event
from orchestrator.fulfilment import FULFILMENT
from orchestrator.saga import Phase, SagaRun, Transition, advance
from services.delivery.messages import DeliveryCancelled, DeliveryScheduled
from services.order.messages import OrderPlaced, OrderWithdrawn
from services.vocabulary import Reason


def unanswered_step_not_undone(run: SagaRun | None, event: Event) -> Transition | None:
    """C7: a withdrawal undoes only the steps before the one that is waited for, as a refusal does."""
    if run and run.phase is Phase.AT and isinstance(event, OrderWithdrawn) and (refused := FULFILMENT.steps[run.step].refused):
        return advance(FULFILMENT, run, refused(order_id=event.order_id, reason=event.reason))
    return advance(FULFILMENT, run, event)


def late_success_applied(run: SagaRun | None, event: Event) -> Transition | None:
    """C7: a success that arrives while its step is being undone moves the run forward."""
    if run and run.phase is Phase.UNDO and isinstance(event, FULFILMENT.steps[run.step].success):
        return advance(FULFILMENT, run.copy_with(phase=Phase.AT), event)
    return advance(FULFILMENT, run, event)


def early_withdrawal_dropped(run: SagaRun | None, event: Event) -> Transition | None:
    """C6: OrderWithdrawn for a run that does not exist yet is dropped."""
    return None if run is None and isinstance(event, OrderWithdrawn) else advance(FULFILMENT, run, event)


def late_beginning_believed(run: SagaRun | None, event: Event) -> Transition | None:
    """An OrderPlaced that arrives after its withdrawal starts the saga."""
    if isinstance(event, OrderPlaced) and run and run.details is None:
        return advance(FULFILMENT, None, event)
    return advance(FULFILMENT, run, event)


def passed_pivot_ignored(run: SagaRun | None, event: Event) -> Transition | None:
    """DeliveryScheduled during CancelDelivery is dropped like every other late success."""
    if run and run.phase is Phase.UNDO and isinstance(event, DeliveryScheduled):
        return None
    return advance(FULFILMENT, run, event)


def pivot_not_awaited(run: SagaRun | None, event: Event) -> Transition | None:
    """After a withdrawal at the pivot, payment and stock are undone without waiting for delivery's answer."""
    transition = advance(FULFILMENT, run, event)
    if transition and transition[0].phase is Phase.UNDO and transition[0].step == FULFILMENT.pivot:
        cancelled = DeliveryCancelled(order_id=event.order_id, reason=transition[0].reason or Reason.WITHDRAWN)
        return advance(FULFILMENT, transition[0], cancelled)
    return transition
