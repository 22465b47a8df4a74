"""The counterexamples C1 to C8 and C11 of docs/protocol.md#counterexamples as scripts.

Each is played twice by test_counterexamples.py: with the rules it ends well, and without its rule (a bug of rule_bugs.py) it
breaks the guarantee that it names. Comments mark the step where the rule is needed.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from services.delivery.messages import CancelDelivery, ScheduleDelivery
from services.inventory.messages import ReleaseStock, ReserveStock, StockReserved
from services.order.messages import OrderWithdrawn, PlaceOrder, RejectOrder
from services.payment.messages import AuthorizePayment, PaymentAuthorized, Verb, VoidPayment
from services.vocabulary import Reason
from tests.support.protocol.gateway_model import Decision
from tests.support.protocol.harness import details, order_id
from tests.support.protocol.scenario import ARTICLES, Plan
from tests.support.protocol.script import Script

CHOREOGRAPHY, ORCHESTRATOR = "choreography", "orchestrator"

FINE = Plan(order_id(1), details({"cup": 2}))
DECLINED = replace(FINE, gateway=Decision.DECLINES)
MUTE = replace(FINE, gateway=Decision.MUTE)
OUT_OF_STOCK = replace(FINE, details=details({ARTICLES[Reason.OUT_OF_STOCK]: 2}), short_of=Reason.OUT_OF_STOCK)
UNDELIVERABLE = replace(FINE, details=details({"cup": 2}, served=False), undeliverable=True)


@dataclass(frozen=True, slots=True)
class Counterexample:
    """A schedule, how it ends with the rules, and the guarantee that it breaks without one of them."""

    play: Callable[[Script], None]
    given: Plan
    bug: str
    breaks: str
    #: The states at the end, with the rules.
    ends: dict[str, str]
    #: The modes that need the rule.
    affects: tuple[str, ...] = (ORCHESTRATOR, CHOREOGRAPHY)


CASES: list[Counterexample] = []


def counterexample(
    bug: str, breaks: str, *, given: Plan = FINE, affects: str | None = None, **ends: str
) -> Callable[[Callable[[Script], None]], Callable[[Script], None]]:
    """Register a schedule under its function's name. `affects`: the only mode that needs the rule; `ends`: the final states."""

    def register(play: Callable[[Script], None]) -> Callable[[Script], None]:
        modes = (affects,) if affects else (ORCHESTRATOR, CHOREOGRAPHY)
        CASES.append(Counterexample(play, given, bug, breaks, ends, modes))
        return play

    return register


@counterexample(
    "R1 C1 void published early", "G1", order="REJECTED(withdrawn)", payment="VOIDED", gateway="voided", stock="RELEASED"
)
def c1_void_published_before_the_gateway_confirms(script: Script) -> None:
    script.handles(PlaceOrder, ReserveStock)
    script.handles_in(ORCHESTRATOR, AuthorizePayment)
    script.withdraws()
    script.handles_in(CHOREOGRAPHY, CancelDelivery, AuthorizePayment)
    script.handles(VoidPayment)
    script.handles_if_pending(ReleaseStock, RejectOrder)  # not yet: the payment is VOIDING
    script.gateway_handles(Verb.AUTHORIZE)


@counterexample(
    "R1 C2 tombstone without calling the gateway", "G1", order="REJECTED(withdrawn)", payment="VOIDED", gateway="voided"
)
def c2_tombstone_without_calling_the_gateway(script: Script) -> None:
    script.handles(PlaceOrder, ReserveStock)
    script.crashes_after_calling(AuthorizePayment)
    script.withdraws()
    script.handles_in(CHOREOGRAPHY, CancelDelivery)
    script.handles(VoidPayment)
    script.handles_if_pending(ReleaseStock, RejectOrder)
    script.gateway_handles(Verb.AUTHORIZE)
    script.handles(AuthorizePayment)  # the redelivered command is refused, or answered by the void


@counterexample(
    "R1 C3 gateway forgets voids of unknown keys", "G1", order="REJECTED(payment_timeout)", payment="DECLINED", gateway="voided"
)
def c3_authorization_lands_after_the_void(script: Script) -> None:
    script.handles(PlaceOrder, ReserveStock, AuthorizePayment)
    script.authorization_times_out()
    script.gateway_handles(Verb.VOID)
    script.payment_receives_answer()
    script.handles(ReleaseStock, RejectOrder)
    script.gateway_handles(Verb.AUTHORIZE)


@counterexample(
    "R2 C4 void while voiding forgotten",
    "G3",
    affects=ORCHESTRATOR,
    order="REJECTED(deadline)",
    payment="VOIDED",
    stock="RELEASED",
)
def c4_void_requested_while_voiding_for_a_timeout(script: Script) -> None:
    script.handles(PlaceOrder, ReserveStock, AuthorizePayment)
    script.authorization_times_out()
    script.deadline_passes()
    script.handles_in(CHOREOGRAPHY, CancelDelivery)
    script.handles(VoidPayment)
    script.has_states(payment="VOIDING")
    script.gateway_handles(Verb.VOID)
    script.payment_receives_answer()


@counterexample(
    "R3 C5 refusal repeated by delivery",
    "G3",
    given=UNDELIVERABLE,
    affects=ORCHESTRATOR,
    order="REJECTED(withdrawn)",
    delivery="REJECTED",
    payment="VOIDED",
    stock="RELEASED",
)
def c5_cancelled_after_delivery_refused(script: Script) -> None:
    script.handles(PlaceOrder, ReserveStock, AuthorizePayment)
    script.gateway_handles(Verb.AUTHORIZE)
    script.payment_receives_answer()
    script.handles(ScheduleDelivery)
    script.withdraws()
    script.coordinator_receives(OrderWithdrawn)  # before DeliveryRejected
    script.handles(CancelDelivery)


@counterexample(
    "R3 C5 refusal repeated by payment",
    "G3",
    given=DECLINED,
    affects=ORCHESTRATOR,
    order="REJECTED(withdrawn)",
    payment="DECLINED",
    stock="RELEASED",
)
def c5_voided_after_payment_was_declined(script: Script) -> None:
    script.handles(PlaceOrder, ReserveStock, AuthorizePayment)
    script.gateway_handles(Verb.AUTHORIZE)
    script.payment_receives_answer()
    script.withdraws()
    script.coordinator_receives(OrderWithdrawn)  # before PaymentDeclined
    script.handles_in(ORCHESTRATOR, VoidPayment)


@counterexample(
    "R3 C5 refusal repeated by inventory",
    "G3",
    given=OUT_OF_STOCK,
    affects=ORCHESTRATOR,
    order="REJECTED(withdrawn)",
    stock="REJECTED",
)
def c5_released_after_stock_was_refused(script: Script) -> None:
    script.handles(PlaceOrder, ReserveStock)
    script.withdraws()
    script.coordinator_receives(OrderWithdrawn)  # before StockRejected
    script.handles_in(ORCHESTRATOR, ReleaseStock)


@counterexample("R5 C6 early withdrawal dropped", "G3", given=MUTE, affects=ORCHESTRATOR, order="REJECTED(deadline)")
def c6_withdrawal_overtakes_the_order(script: Script) -> None:
    script.handles(PlaceOrder)
    script.deadline_passes()
    script.coordinator_receives(OrderWithdrawn)  # before OrderPlaced


@counterexample("R5 C7 late success believed", "G2", affects=ORCHESTRATOR, order="REJECTED(withdrawn)", stock="RELEASED")
def c7_late_reservation_while_releasing(script: Script) -> None:
    script.handles(PlaceOrder, ReserveStock)
    script.withdraws()
    script.coordinator_receives(OrderWithdrawn)
    script.coordinator_receives(StockReserved)  # late
    script.handles_in(ORCHESTRATOR, ReleaseStock)
    script.handles_if_pending(AuthorizePayment)


@counterexample(
    "R5 C7 late success believed", "G2", affects=ORCHESTRATOR, order="REJECTED(withdrawn)", payment="VOIDED", stock="RELEASED"
)
def c7_late_authorization_while_voiding(script: Script) -> None:
    script.handles(PlaceOrder, ReserveStock, AuthorizePayment)
    script.gateway_handles(Verb.AUTHORIZE)
    script.payment_receives_answer()
    script.withdraws()
    script.coordinator_receives(OrderWithdrawn)
    script.coordinator_receives(PaymentAuthorized)  # late
    script.handles_in(ORCHESTRATOR, VoidPayment)
    script.handles_in(CHOREOGRAPHY, CancelDelivery, VoidPayment)
    script.gateway_handles(Verb.VOID)
    script.payment_receives_answer()
    script.handles_if_pending(ScheduleDelivery)


@counterexample("R4 C7 silent step not undone", "G1", affects=ORCHESTRATOR, order="REJECTED(withdrawn)", stock="RELEASED")
def c7_silent_reservation_not_released(script: Script) -> None:
    script.handles(PlaceOrder)
    assert script.is_pending(ReserveStock)
    script.withdraws()
    script.coordinator_receives(OrderWithdrawn)
    script.handles_if_pending(RejectOrder)  # not yet: the reservation in flight would be held for good
    script.handles(ReserveStock)


@counterexample(
    "R4 C7 silent step not undone",
    "G[12]",
    affects=ORCHESTRATOR,
    order="REJECTED(withdrawn)",
    delivery="CANCELLED",
    payment="VOIDED",
    gateway="voided",
    stock="RELEASED",
)
def c7_silent_delivery_not_cancelled(script: Script) -> None:
    script.handles(PlaceOrder, ReserveStock, AuthorizePayment)
    script.gateway_handles(Verb.AUTHORIZE)
    script.payment_receives_answer()
    assert script.is_pending(ScheduleDelivery)
    script.withdraws()
    script.coordinator_receives(OrderWithdrawn)
    script.handles_if_pending(CancelDelivery, VoidPayment)
    script.gateway_handles(Verb.VOID)
    script.payment_receives_answer()
    script.handles_if_pending(ReleaseStock, RejectOrder)
    script.handles(ScheduleDelivery)


@counterexample("R6 C8 reason of the message", "G5", given=OUT_OF_STOCK, affects=CHOREOGRAPHY, order="REJECTED(deadline)")
def c8_inventory_is_down_past_the_deadline_of_an_order_out_of_stock(script: Script) -> None:
    script.handles(PlaceOrder)
    assert script.is_pending(ReserveStock)
    script.deadline_passes()  # inventory is back: the rest arrives in the order of sending


@counterexample("R6 C8 reason of the message", "G5", given=UNDELIVERABLE, affects=CHOREOGRAPHY, order="REJECTED(deadline)")
def c8_delivery_is_down_past_the_deadline_of_an_order_that_is_undeliverable(script: Script) -> None:
    script.handles(PlaceOrder, ReserveStock, AuthorizePayment)
    script.gateway_handles(Verb.AUTHORIZE)
    script.payment_receives_answer()
    assert script.is_pending(ScheduleDelivery)
    script.deadline_passes()


@counterexample(
    "R3 C11 CANCELLED expires",
    "G2",
    order="REJECTED(withdrawn)",
    delivery="CANCELLED",
    payment="VOIDED",
    gateway="voided",
    stock="RELEASED",
)
def c11_delivery_tombstone_expires(script: Script) -> None:
    script.handles(PlaceOrder, ReserveStock, AuthorizePayment)
    script.gateway_handles(Verb.AUTHORIZE)
    script.payment_receives_answer()
    assert script.is_pending(ScheduleDelivery)
    script.withdraws()
    script.handles(CancelDelivery, VoidPayment)
    script.gateway_handles(Verb.VOID)
    script.payment_receives_answer()
    script.handles(ScheduleDelivery)  # late


@counterexample(
    "R3 C11 no delivery tombstone",
    "G2",
    order="REJECTED(withdrawn)",
    delivery="CANCELLED",
    payment="VOIDED",
    gateway="voided",
    stock="RELEASED",
)
def c11_delivery_leaves_no_tombstone(script: Script) -> None:
    c11_delivery_tombstone_expires(script)


@counterexample(
    "R3 C11 RELEASED expires",
    "G1|final",
    given=DECLINED,
    order="REJECTED(payment_declined)",
    stock="RELEASED",
    payment="DECLINED",
)
def c11_released_reservation_requested_again(script: Script) -> None:
    """A duplicate is enough; no withdrawal is needed."""
    script.handles(PlaceOrder, ReserveStock, AuthorizePayment)
    script.gateway_handles(Verb.AUTHORIZE)
    script.payment_receives_answer()
    script.handles(ReleaseStock, RejectOrder)
    script.handles_again(ReserveStock)


@counterexample(
    "R3 C11 VOIDED expires", "G1|final", given=UNDELIVERABLE, order="REJECTED(undeliverable)", payment="VOIDED", gateway="voided"
)
def c11_voided_payment_requested_again(script: Script) -> None:
    script.handles(PlaceOrder, ReserveStock, AuthorizePayment)
    script.gateway_handles(Verb.AUTHORIZE)
    script.payment_receives_answer()
    script.handles(ScheduleDelivery, VoidPayment)
    script.gateway_handles(Verb.VOID)
    script.payment_receives_answer()
    script.handles(ReleaseStock, RejectOrder)
    script.handles_again(AuthorizePayment)
