"""Handlers of the order service: the table of docs/protocol.md#order as pure functions.

A handler takes the command, the documents it declared and the context, and returns an outcome. It knows neither mode.
"""

from collections.abc import Iterable, Mapping
from functools import partial

from broker.handler import NOTHING, Context, Documents, Handler, Outcome, ProtocolViolation
from broker.message import Event, Message
from broker.role import Service, Timer
from services.order.domain import Order, OrderState
from services.order.messages import (
    CompleteOrder,
    DeadlinePassed,
    MarkForAttention,
    OrderCompleted,
    OrderPlaced,
    OrderRejected,
    OrderStepFailed,
    OrderWithdrawn,
    PlaceOrder,
    Refusal,
    RejectOrder,
    WithdrawalRefused,
    WithdrawOrder,
)
from services.vocabulary import Attention, Reason
from store.document import Key


def order_keys(command: Message, _: Documents) -> Iterable[Key]:
    """The key of the order, which is all that the handlers here need."""
    return (Order.key_of(command.order_id),)


def place_order(command: PlaceOrder, documents: Documents, context: Context, *, deadline_s: float) -> Outcome:
    """Place a new order: PENDING until its deadline, or REJECTED at once if its withdrawal came first."""
    order = documents.get(Order, command.order_id)
    if order is None:
        order = Order(
            order_id=command.order_id,
            state=OrderState.PENDING,
            details=command.details,
            placed_at=context.now,
            due_at=context.now + deadline_s,
        )
        return Outcome((order,), (OrderPlaced.from_source(command),))
    if order.state is OrderState.TOMBSTONE:
        assert order.withdrawn is not None  # noqa: S101 - a tombstone is made by a withdrawal
        order = order.copy_with(details=command.details, placed_at=context.now).rejected(order.withdrawn, context.now)
        return Outcome((order,), (OrderRejected(order_id=order.order_id, reason=order.withdrawn or Reason.WITHDRAWN),))
    if order.state is OrderState.PENDING:
        return Outcome(messages=(OrderPlaced(order_id=order.order_id, details=order.details or command.details),))
    return NOTHING


def withdraw_order(command: WithdrawOrder, documents: Documents, context: Context, *, deadline_s: float) -> Outcome:
    """Record the first withdrawal; the pivot decides whether it takes effect. An order that has ended refuses it."""
    order = documents.get(Order, command.order_id)
    if order is None:
        tombstone = Order(order_id=command.order_id, state=OrderState.TOMBSTONE, withdrawn=command.reason)
        return Outcome((tombstone,))
    if order.ended:
        order = order.copy_with(withdrawal_refused=order.withdrawal_refused or Refusal.ALREADY_ENDED)
        return Outcome((order,), (WithdrawalRefused(order_id=order.order_id, refusal=Refusal.ALREADY_ENDED),))
    if order.state is OrderState.PENDING:
        return _withdrawn(order, command.reason, context.now + deadline_s)
    return NOTHING


def deadline_passed(command: DeadlinePassed, documents: Documents, context: Context, *, deadline_s: float) -> Outcome:
    """Withdraw an order that is overdue. It is repeated at each later deadline, to restart a rollback that stalled."""
    order = documents.get(Order, command.order_id)
    if order is None or order.state is not OrderState.PENDING or (order.due_at or 0) > context.now:
        return NOTHING
    return _withdrawn(order, Reason.DEADLINE, context.now + deadline_s)


def _withdrawn(order: Order, reason: Reason, again_at: float) -> Outcome:
    """Keep the first withdrawal, publish it, and repeat it at `again_at` unless the order has ended by then."""
    first = order.withdrawn or reason
    return Outcome(
        (order.copy_with(withdrawn=first, due_at=again_at),),
        (OrderWithdrawn(order_id=order.order_id, reason=first),),
    )


def complete_order(command: CompleteOrder, documents: Documents, context: Context) -> Outcome:
    """Complete the order. A withdrawal by the customer that came too late is answered with WithdrawalRefused."""
    order = documents.get(Order, command.order_id)
    if order is None or order.state in (OrderState.TOMBSTONE, OrderState.REJECTED):
        raise ProtocolViolation(f"CompleteOrder for an order that is {order.state if order else 'unknown'}")
    completed = OrderCompleted(order_id=order.order_id)
    if order.state is OrderState.COMPLETED:
        return Outcome(messages=(completed,))
    events: tuple[Event, ...] = (completed,)
    if order.withdrawn is Reason.WITHDRAWN:
        events += (WithdrawalRefused(order_id=order.order_id, refusal=Refusal.TOO_LATE),)
    return Outcome((order.completed(context.now),), events)


def reject_order(command: RejectOrder, documents: Documents, context: Context) -> Outcome:
    """Reject the order. A recorded withdrawal is the reason, otherwise the command's."""
    order = documents.get(Order, command.order_id)
    if order is None or order.state in (OrderState.TOMBSTONE, OrderState.COMPLETED):
        raise ProtocolViolation(f"RejectOrder for an order that is {order.state if order else 'unknown'}")
    changed: tuple[Order, ...] = ()
    if order.state is OrderState.PENDING:
        order = order.rejected(command.reason, context.now)
        changed = (order,)
    assert order.reason is not None  # noqa: S101 - REJECTED always has a reason
    return Outcome(changed, (OrderRejected(order_id=order.order_id, reason=order.reason),))


def mark_for_attention(command: MarkForAttention, documents: Documents, _: Context) -> Outcome:
    """Store why the order needs an operator. An order that is unknown or has ended is left as it is."""
    order = documents.get(Order, command.order_id)
    if order is None or not order.is_open:
        return NOTHING
    return Outcome((order.copy_with(attention=Attention(step=command.step, error=command.error)),))


def on_exhausted(command: Message, error: str) -> Event | None:
    """The escalation for a command that has exhausted its retry budget; None for MarkForAttention, which is one itself."""
    return None if isinstance(command, MarkForAttention) else OrderStepFailed.from_command(command, error)


def order_service(*, deadline_s: float) -> Service:
    """Build the order service. `deadline_s`: how long an order may be PENDING before it withdraws itself."""
    handlers: Mapping[type[Message], Handler] = {
        PlaceOrder: Handler(order_keys, partial(place_order, deadline_s=deadline_s)),
        WithdrawOrder: Handler(order_keys, partial(withdraw_order, deadline_s=deadline_s), must_not_fail=True),
        DeadlinePassed: Handler(order_keys, partial(deadline_passed, deadline_s=deadline_s), must_not_fail=True),
        CompleteOrder: Handler(order_keys, complete_order, must_not_fail=True),
        RejectOrder: Handler(order_keys, reject_order, must_not_fail=True),
        MarkForAttention: Handler(order_keys, mark_for_attention, must_not_fail=True),
    }
    return Service("order", handlers, timers=(Timer(Order, fires=DeadlinePassed),), on_exhausted=on_exhausted)
