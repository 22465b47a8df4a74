"""What the order service does with each command. The table of docs/protocol.md#order, row by row.

Pure functions of (command, documents, context); neither mode is known here.
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
    """Every command here needs the one order it names."""
    return (Order.key_of(command.order_id),)


def place_order(command: PlaceOrder, documents: Documents, context: Context, *, deadline_s: float) -> Outcome:
    """A new order is PENDING until its deadline; one that was withdrawn before it came is REJECTED at once."""
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
        assert order.withdrawn is not None  # noqa: S101 - that is what a tombstone is
        order = order.copy_with(details=command.details, placed_at=context.now).rejected(order.withdrawn, context.now)
        return Outcome((order,), (OrderRejected(order_id=order.order_id, reason=order.withdrawn or Reason.WITHDRAWN),))
    if order.state is OrderState.PENDING:
        return Outcome(messages=(OrderPlaced(order_id=order.order_id, details=order.details or command.details),))
    return NOTHING


def withdraw_order(command: WithdrawOrder, documents: Documents, context: Context, *, deadline_s: float) -> Outcome:
    """Record the first withdrawal; the pivot decides what it is worth. An order that has ended refuses it."""
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
    """An overdue order withdraws itself. Publishing a withdrawal again later redrives a rollback that stalled."""
    order = documents.get(Order, command.order_id)
    if order is None or order.state is not OrderState.PENDING or (order.due_at or 0) > context.now:
        return NOTHING
    return _withdrawn(order, Reason.DEADLINE, context.now + deadline_s)


def _withdrawn(order: Order, reason: Reason, again_at: float) -> Outcome:
    first = order.withdrawn or reason
    return Outcome(
        (order.copy_with(withdrawn=first, due_at=again_at),),
        (OrderWithdrawn(order_id=order.order_id, reason=first),),
    )


def complete_order(command: CompleteOrder, documents: Documents, context: Context) -> Outcome:
    """The end after the pivot. A customer whose withdrawal came too late is told."""
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
    """The end once nothing is held any more; a recorded withdrawal is its reason."""
    order = documents.get(Order, command.order_id)
    if order is None or order.state in (OrderState.TOMBSTONE, OrderState.COMPLETED):
        raise ProtocolViolation(f"RejectOrder for an order that is {order.state if order else 'unknown'}")
    changed: tuple[Order, ...] = ()
    if order.state is OrderState.PENDING:
        order = order.rejected(command.reason, context.now)
        changed = (order,)
    assert order.reason is not None  # noqa: S101 - a rejected order has its reason
    return Outcome(changed, (OrderRejected(order_id=order.order_id, reason=order.reason),))


def mark_for_attention(command: MarkForAttention, documents: Documents, _: Context) -> Outcome:
    """Keep why the order is stuck, until it moves again; one that has ended needs no attention."""
    order = documents.get(Order, command.order_id)
    if order is None or not order.is_open:
        return NOTHING
    return Outcome((order.copy_with(attention=Attention(step=command.step, error=command.error)),))


def on_exhausted(command: Message, error: str) -> Event | None:
    """What is said when a command here has failed for good; nobody is told about a message that was itself a call for help."""
    return None if isinstance(command, MarkForAttention) else OrderStepFailed.from_command(command, error)


def order_service(*, deadline_s: float) -> Service:
    """The order service; `deadline_s` is how long an order may be PENDING before it withdraws itself."""
    handlers: Mapping[type[Message], Handler] = {
        PlaceOrder: Handler(order_keys, partial(place_order, deadline_s=deadline_s)),
        WithdrawOrder: Handler(order_keys, partial(withdraw_order, deadline_s=deadline_s), compensates=True),
        DeadlinePassed: Handler(order_keys, partial(deadline_passed, deadline_s=deadline_s), compensates=True),
        CompleteOrder: Handler(order_keys, complete_order, compensates=True),
        RejectOrder: Handler(order_keys, reject_order, compensates=True),
        MarkForAttention: Handler(order_keys, mark_for_attention, compensates=True),
    }
    return Service("order", handlers, timers=(Timer(Order, fires=DeadlinePassed),), on_exhausted=on_exhausted)
