"""The journeys: what can happen to an order, each a short script that runs in either mode, on parts in memory or on real ones.

A script places orders and meddles (a failure, a withdrawal, a worker that is down). `ends` says how its orders must
end, in both modes, and `compensations` which compensations must have had an effect, in their order.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

from lab.journeys.run import JourneyRun
from services.order.messages import OrderPlaced, OrderWithdrawn
from services.payment.domain import PaymentState
from services.payment.messages import PaymentAuthorized

Script = Callable[[JourneyRun], Awaitable[None]]

BOTH_COMPENSATIONS = ("VoidPayment", "ReleaseStock")
#: What is on the shelf when a journey begins, in units of each SKU.
INITIAL_STOCK = {"book": 10, "lamp": 1, "sold-out": 0}


@dataclass(frozen=True, slots=True)
class Journey:
    """`ends`: state (with reason) -> how many orders. `compensations`: compensations with an effect, in order."""

    name: str
    title: str
    script: Script
    ends: dict[str, int]
    compensations: tuple[str, ...] = ()
    #: The two modes may differ in which compensations had anything to undo (docs/protocol.md#g7); then this is the choreography's.
    compensations_in_choreography: tuple[str, ...] | None = None


async def one_order(run: JourneyRun) -> None:
    """One order for a book, nothing in its way."""
    await run.place({"book": 2})


async def two_lines(run: JourneyRun) -> None:
    """One line is in stock, the other is not."""
    await run.place({"book": 1, "sold-out": 1})


async def last_unit(run: JourneyRun) -> None:
    """Twenty buyers at once, one lamp."""
    for _ in range(20):
        await run.place({"lamp": 1})


async def one_order_with_fault(run: JourneyRun, failure: str) -> None:
    """One order with an injected failure."""
    await run.place({"book": 2}, failure)


async def payment_settles_late(run: JourneyRun) -> None:
    """The gateway says "pending"; the order must not be complete before it has settled."""
    order_id = await run.place({"book": 2}, "payment:pending")
    await run.wait_for_payment_state(order_id, PaymentState.PENDING)
    assert not run.has_ended(order_id)  # noqa: S101 - the journey's own claim


async def withdraw_before_it_arrives(run: JourneyRun) -> None:
    """The withdrawal overtakes the order on its way to the order service."""
    order_id = run.new_id()
    await run.withdraw(order_id)
    await run.wait_for_order(order_id)
    await run.place({"book": 2}, order_id=order_id)


async def withdraw_while_late(run: JourneyRun, service: str) -> None:
    """The step at `service` is held up on its way; the withdrawal and its rollback overtake it."""
    order_id = await run.place({"book": 2}, f"{service}:late")
    await run.wait_for_fault(f"{service}:late")
    await run.withdraw(order_id)


async def withdraw_while_down(run: JourneyRun, service: str) -> None:
    """`service` is down with the step already in its queue; it comes back after the withdrawal was recorded."""
    await run.stop(service)
    order_id = await run.place({"book": 2})
    await run.wait_for_queued_step(order_id, service)
    await run.withdraw(order_id)
    await run.wait_for_event(order_id, OrderWithdrawn)
    await run.start(service)


async def withdraw_while_pending(run: JourneyRun) -> None:
    """The gateway has not decided yet when the customer withdraws."""
    order_id = await run.place({"book": 2}, "payment:pending")
    await run.wait_for_payment_state(order_id, PaymentState.PENDING)
    await run.withdraw(order_id)


async def withdraw_too_late(run: JourneyRun) -> None:
    """The delivery's step is already queued when the customer withdraws: the pivot is older than its cancellation."""
    await withdraw_while_down(run, "delivery")


async def withdraw_after_the_end(run: JourneyRun) -> None:
    """The order has completed when the customer withdraws."""
    order_id = await run.place({"book": 2})
    await run.wait_for_end(order_id)
    await run.withdraw(order_id)
    await run.wait_for_refused_withdrawal(order_id)


async def down_past_deadline(run: JourneyRun, service: str) -> None:
    """`service` is down until after the order's deadline, then comes back."""
    await run.stop(service)
    order_id = await run.place({"book": 2})
    await run.wait_for_event(order_id, OrderPlaced)
    await run.wait_for_queued_step(order_id, service)
    await run.wait_for_event(order_id, OrderWithdrawn)
    await run.start(service)


async def delivery_down_past_deadline(run: JourneyRun) -> None:
    """Delivery is down past the deadline, with its step queued before."""
    await run.stop("delivery")
    order_id = await run.place({"book": 2})
    await run.wait_for_event(order_id, PaymentAuthorized)
    await run.wait_for_event(order_id, OrderWithdrawn)
    await run.start("delivery")


ONE_COMPLETED = {"COMPLETED": 1}
ONE_WITHDRAWN = {"REJECTED withdrawn": 1}

#: The points before the pivot at which a customer may withdraw, by the name of the point.
WITHDRAWAL_POINTS: dict[str, tuple[Script, tuple[str, ...]]] = {
    "before-it-arrives": (withdraw_before_it_arrives, ()),
    "inventory-late": (partial(withdraw_while_late, service="inventory"), ()),
    "inventory-down": (partial(withdraw_while_down, service="inventory"), ("ReleaseStock",)),
    "payment-late": (partial(withdraw_while_late, service="payment"), ("ReleaseStock",)),
    "payment-down": (partial(withdraw_while_down, service="payment"), BOTH_COMPENSATIONS),
    "payment-pending": (withdraw_while_pending, BOTH_COMPENSATIONS),
    "delivery-late": (partial(withdraw_while_late, service="delivery"), BOTH_COMPENSATIONS),
}

JOURNEYS: dict[str, Journey] = {
    journey.name: journey
    for journey in (
        Journey("happy", "everything in stock, payment authorized", one_order, ONE_COMPLETED),
        Journey("out-of-stock", "two lines, one out of stock", two_lines, {"REJECTED out_of_stock": 1}),
        Journey("last-unit", "20 buyers at once for the last unit", last_unit, {"COMPLETED": 1, "REJECTED out_of_stock": 19}),
        Journey(
            "declined",
            "payment declined",
            partial(one_order_with_fault, failure="payment:declined"),
            {"REJECTED payment_declined": 1},
            ("ReleaseStock",),
        ),
        Journey(
            "gateway-hangs",
            "the payment gateway hangs past payment's patience",
            partial(one_order_with_fault, failure="payment:hang"),
            {"REJECTED payment_timeout": 1},
            ("ReleaseStock",),
        ),
        Journey(
            "gateway-drops",
            "the connection to the gateway drops past payment's patience",
            partial(one_order_with_fault, failure="payment:drop"),
            {"REJECTED payment_timeout": 1},
            ("ReleaseStock",),
        ),
        Journey("pending", "payment pending, settled after the wait", payment_settles_late, ONE_COMPLETED),
        Journey(
            "undeliverable",
            "delivery refused",
            partial(one_order_with_fault, failure="delivery:undeliverable"),
            {"REJECTED undeliverable": 1},
            BOTH_COMPENSATIONS,
        ),
        *(
            Journey(f"withdraw-{point}", f"customer withdraws before the pivot: {point}", script, ONE_WITHDRAWN, compensations)
            for point, (script, compensations) in WITHDRAWAL_POINTS.items()
        ),
        Journey("withdraw-too-late", "customer withdraws behind the pivot's step", withdraw_too_late, ONE_COMPLETED),
        Journey("withdraw-after-end", "customer withdraws after the end", withdraw_after_the_end, ONE_COMPLETED),
        Journey(
            "inventory-down",
            "inventory is down past the deadline, then comes back",
            partial(down_past_deadline, service="inventory"),
            {"REJECTED deadline": 1},
            ("ReleaseStock",),
        ),
        Journey(
            "payment-down",
            "payment is down past the deadline, then comes back",
            partial(down_past_deadline, service="payment"),
            {"REJECTED deadline": 1},
            BOTH_COMPENSATIONS,
        ),
        Journey(
            "delivery-down",
            "delivery is down past the deadline, its step already queued",
            delivery_down_past_deadline,
            ONE_COMPLETED,
        ),
    )
}

#: What `saga demo` shows unless asked for one by name: one of each kind.
DEMO_JOURNEYS = (
    *("happy", "out-of-stock", "last-unit", "declined", "gateway-hangs", "pending", "undeliverable"),
    *("withdraw-payment-pending", "withdraw-delivery-late", "withdraw-too-late", "payment-down", "delivery-down"),
)
