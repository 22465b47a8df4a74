"""The rules R1 to R6 of docs/protocol.md#rules, each with bugs that remove it and the guarantees that break.

The bugs themselves are in handler_bugs.py and coordinator_bugs.py.
"""

from services.delivery.domain import DeliveryState, OrderDelivery
from services.delivery.messages import CancelDelivery, ScheduleDelivery
from services.inventory.domain import Reservation, ReservationState
from services.inventory.messages import ReleaseStock, ReserveStock
from services.order.messages import RejectOrder, WithdrawOrder
from services.payment.domain import Payment, PaymentState
from services.payment.messages import AuthorizePayment, GatewayAnswered, PollGateway, VoidPayment
from tests.support.protocol.bugs import Bug, Change, no_change, with_advance, wrapped
from tests.support.protocol.coordinator_bugs import (
    early_withdrawal_dropped,
    late_beginning_believed,
    late_success_applied,
    passed_pivot_ignored,
    pivot_not_awaited,
    unanswered_step_not_undone,
)
from tests.support.protocol.gateway_model import GatewayModel
from tests.support.protocol.handler_bugs import (
    AuthorizesAfterVoid,
    ForgetsUnknownVoids,
    calls_not_repeated,
    last_withdrawal_counts,
    late_authorization_applied,
    no_tombstone,
    reason_of_the_message,
    refusal_repeated_by_delivery,
    refusal_repeated_by_inventory,
    refusal_repeated_by_payment,
    timeout_published_at_once,
    tombstone_expires,
    tombstone_without_calling_the_gateway,
    undone_without_answer,
    void_published_before_the_gateway_confirms,
    void_while_voiding_forgotten,
    withdrawal_before_the_order_forgotten,
)


def _rule(
    name: str, breaks: str, change: Change = no_change, *, gateway: type[GatewayModel] = GatewayModel, mode: str | None = None
) -> Bug:
    modes = (mode,) if mode else ("orchestrator", "choreography")
    return Bug(name, frozenset(breaks.split()), change, gateway, modes)


ORCHESTRATOR = "orchestrator"

#: Name, guarantees that break, how the bug is planted; `mode` where only one of the two is affected.
RULES = (
    _rule("R1 C1 void published early", "G1 G2", wrapped(VoidPayment, void_published_before_the_gateway_confirms)),
    _rule("R1 C2 tombstone without calling the gateway", "G1 G2", wrapped(VoidPayment, tombstone_without_calling_the_gateway)),
    _rule("R1 C3 gateway forgets voids of unknown keys", "G1 G2", gateway=ForgetsUnknownVoids),
    _rule("R1 gateway authorizes after a void", "G1 G2", gateway=AuthorizesAfterVoid),
    _rule("R1 timeout published early", "G1 G2", wrapped(PollGateway, timeout_published_at_once)),
    _rule("R1 calls not repeated", "G3", wrapped(PollGateway, calls_not_repeated)),
    _rule("R2 C4 void while voiding forgotten", "G3", wrapped(VoidPayment, void_while_voiding_forgotten), mode=ORCHESTRATOR),
    _rule("R2 late authorization believed", "G1 G3 G5", wrapped(GatewayAnswered, late_authorization_applied)),
    _rule("R3 C5 refusal repeated by delivery", "G3", wrapped(CancelDelivery, refusal_repeated_by_delivery), mode=ORCHESTRATOR),
    _rule("R3 C5 refusal repeated by payment", "G3", wrapped(VoidPayment, refusal_repeated_by_payment), mode=ORCHESTRATOR),
    _rule("R3 C5 refusal repeated by inventory", "G3", wrapped(ReleaseStock, refusal_repeated_by_inventory), mode=ORCHESTRATOR),
    _rule("R3 delivery undone without an answer", "G3", wrapped(CancelDelivery, undone_without_answer), mode=ORCHESTRATOR),
    _rule("R3 payment undone without an answer", "G3", wrapped(VoidPayment, undone_without_answer), mode=ORCHESTRATOR),
    _rule("R3 stock undone without an answer", "G3", wrapped(ReleaseStock, undone_without_answer), mode=ORCHESTRATOR),
    _rule("R3 C11 no delivery tombstone", "G1 G2", wrapped(CancelDelivery, no_tombstone(OrderDelivery))),
    _rule("R3 C11 no stock tombstone", "G1 G2", wrapped(ReleaseStock, no_tombstone(Reservation))),
    _rule(
        "R3 C11 CANCELLED expires",
        "G1 G2 final",
        wrapped(ScheduleDelivery, tombstone_expires(OrderDelivery, DeliveryState.CANCELLED)),
    ),
    _rule("R3 C11 VOIDED expires", "G1 G2 final", wrapped(AuthorizePayment, tombstone_expires(Payment, PaymentState.VOIDED))),
    _rule(
        "R3 C11 RELEASED expires", "G1 final", wrapped(ReserveStock, tombstone_expires(Reservation, ReservationState.RELEASED))
    ),
    _rule("R4 C7 silent step not undone", "G1 G2", with_advance(unanswered_step_not_undone), mode=ORCHESTRATOR),
    _rule("R4 pivot not awaited", "G1 G2", with_advance(pivot_not_awaited), mode=ORCHESTRATOR),
    _rule("R5 C7 late success believed", "G1 G2", with_advance(late_success_applied), mode=ORCHESTRATOR),
    _rule("R5 C6 early withdrawal dropped", "G3", with_advance(early_withdrawal_dropped), mode=ORCHESTRATOR),
    _rule("R5 late beginning believed", "G1 never", with_advance(late_beginning_believed), mode=ORCHESTRATOR),
    _rule("R5 passed pivot ignored", "G3", with_advance(passed_pivot_ignored), mode=ORCHESTRATOR),
    _rule("R6 withdrawal before the order forgotten", "G3 G5", wrapped(WithdrawOrder, withdrawal_before_the_order_forgotten)),
    _rule("R6 C8 reason of the message", "G5", wrapped(RejectOrder, reason_of_the_message)),
    _rule("R6 last withdrawal counts", "G5", wrapped(WithdrawOrder, last_withdrawal_counts)),
)
