"""The catalogue of journeys: each is a short script that runs in either mode, on in-memory or server back ends.

A script places orders and disturbs them: with an injected failure, a withdrawal, or a worker that is down. A journey says how its
orders must end, in both modes, and which compensations must have had an effect.
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
#: The stock at the start of a journey, in units of each SKU.
INITIAL_STOCK = {"book": 10, "lamp": 1, "sold-out": 0}


@dataclass(frozen=True, slots=True)
class Journey:
    """A script and its expected result. `ends`: state (with reason) -> number of orders. `compensations`: those that have an
    effect, in order."""

    name: str
    title: str
    script: Script
    ends: dict[str, int]
    compensations: tuple[str, ...] = ()
    #: The compensations of the choreography where they differ (docs/protocol.md#g7).
    compensations_in_choreography: tuple[str, ...] | None = None


async def one_order(run: JourneyRun) -> None:
    """One order, without a disturbance."""
    await run.place({"book": 2})


async def two_lines(run: JourneyRun) -> None:
    """One order of two lines, one of them out of stock."""
    await run.place({"book": 1, "sold-out": 1})


async def last_unit(run: JourneyRun) -> None:
    """Twenty orders at once for the last lamp."""
    for _ in range(20):
        await run.place({"lamp": 1})


async def one_order_with_fault(run: JourneyRun, failure: str) -> None:
    """One order with an injected failure."""
    await run.place({"book": 2}, failure)


async def payment_settles_late(run: JourneyRun) -> None:
    """The payment is pending at first; the order must not complete before it has settled."""
    order_id = await run.place({"book": 2}, "payment:pending")
    await run.wait_for_payment_state(order_id, PaymentState.PENDING)
    assert not run.has_ended(order_id)  # noqa: S101 - part of what the journey checks


async def withdraw_before_it_arrives(run: JourneyRun) -> None:
    """The withdrawal reaches the order service before the order."""
    order_id = run.new_id()
    await run.withdraw(order_id)
    await run.wait_for_order(order_id)
    await run.place({"book": 2}, order_id=order_id)


async def withdraw_while_late(run: JourneyRun, service: str) -> None:
    """The step at `service` is delayed; the withdrawal and its rollback overtake it."""
    order_id = await run.place({"book": 2}, f"{service}:late")
    await run.wait_for_fault(f"{service}:late")
    await run.withdraw(order_id)


async def withdraw_while_down(run: JourneyRun, service: str) -> None:
    """`service` is down with the step in its queue; it is started after the withdrawal is recorded."""
    await run.stop(service)
    order_id = await run.place({"book": 2})
    await run.wait_for_queued_step(order_id, service)
    await run.withdraw(order_id)
    await run.wait_for_event(order_id, OrderWithdrawn)
    await run.start(service)


async def withdraw_while_pending(run: JourneyRun) -> None:
    """The customer withdraws while the payment is pending."""
    order_id = await run.place({"book": 2}, "payment:pending")
    await run.wait_for_payment_state(order_id, PaymentState.PENDING)
    await run.withdraw(order_id)


async def withdraw_too_late(run: JourneyRun) -> None:
    """The customer withdraws when the delivery's step is already queued, so that the pivot comes before its cancellation."""
    await withdraw_while_down(run, "delivery")


async def withdraw_after_the_end(run: JourneyRun) -> None:
    """The customer withdraws a completed order."""
    order_id = await run.place({"book": 2})
    await run.wait_for_end(order_id)
    await run.withdraw(order_id)
    await run.wait_for_refused_withdrawal(order_id)


async def down_past_deadline(run: JourneyRun, service: str) -> None:
    """`service` is down until after the order's deadline."""
    await run.stop(service)
    order_id = await run.place({"book": 2})
    await run.wait_for_event(order_id, OrderPlaced)
    await run.wait_for_queued_step(order_id, service)
    await run.wait_for_event(order_id, OrderWithdrawn)
    await run.start(service)


async def delivery_down_past_deadline(run: JourneyRun) -> None:
    """Delivery is down until after the deadline, with its step already queued."""
    await run.stop("delivery")
    order_id = await run.place({"book": 2})
    await run.wait_for_event(order_id, PaymentAuthorized)
    await run.wait_for_event(order_id, OrderWithdrawn)
    await run.start("delivery")


ONE_COMPLETED = {"COMPLETED": 1}
ONE_WITHDRAWN = {"REJECTED withdrawn": 1}

#: Points before the pivot at which a customer withdraws: name -> script and the compensations that have an effect.
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
            "the payment gateway hangs past the authorization timeout",
            partial(one_order_with_fault, failure="payment:hang"),
            {"REJECTED payment_timeout": 1},
            ("ReleaseStock",),
        ),
        Journey(
            "gateway-drops",
            "the gateway drops connections past the authorization timeout",
            partial(one_order_with_fault, failure="payment:drop"),
            {"REJECTED payment_timeout": 1},
            ("ReleaseStock",),
        ),
        Journey("pending", "payment pending, settled later", payment_settles_late, ONE_COMPLETED),
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
        Journey("withdraw-too-late", "customer withdraws after the pivot's step is queued", withdraw_too_late, ONE_COMPLETED),
        Journey("withdraw-after-end", "customer withdraws after the end", withdraw_after_the_end, ONE_COMPLETED),
        Journey(
            "inventory-down",
            "inventory is down past the deadline, then started again",
            partial(down_past_deadline, service="inventory"),
            {"REJECTED deadline": 1},
            ("ReleaseStock",),
        ),
        Journey(
            "payment-down",
            "payment is down past the deadline, then started again",
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

#: The journeys that `saga demo` shows without `--journey`: one of each kind.
DEMO_JOURNEYS = (
    *("happy", "out-of-stock", "last-unit", "declined", "gateway-hangs", "pending", "undeliverable"),
    *("withdraw-payment-pending", "withdraw-delivery-late", "withdraw-too-late", "payment-down", "delivery-down"),
)
