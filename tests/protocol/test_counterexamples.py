"""The counterexamples C1 to C12 of docs/protocol.md#counterexamples, as named schedules.

First the scripts of counterexamples.py, with the rules and without; then those that decide between two legal ends, in the same
way in both modes.
"""

import pytest

from lab.invariants import InvariantViolated
from services.delivery.messages import CancelDelivery, DeliveryScheduled, ScheduleDelivery
from services.inventory.messages import ReleaseStock, ReserveStock
from services.order.messages import CompleteOrder, PlaceOrder, RejectOrder
from services.payment.messages import AuthorizePayment, Verb
from tests.support.protocol.bugs import Bug
from tests.support.protocol.counterexamples import CASES, CHOREOGRAPHY, DECLINED, FINE, ORCHESTRATOR, Counterexample
from tests.support.protocol.gateway_model import Decision
from tests.support.protocol.harness import details, order_id
from tests.support.protocol.rule_bugs import RULES
from tests.support.protocol.scenario import STOCK, Plan
from tests.support.protocol.script import Script, world_of
from tests.support.protocol.world import MODES, QueuedMessage

BUGS = {bug.name: bug for bug in RULES}


def scripted(case: Counterexample, mode: str, bug: Bug | None = None) -> Script:
    script = Script(world_of(mode, STOCK, case.given, bug=bug), case.given)
    case.play(script)
    return script


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("case", [pytest.param(case, id=case.play.__name__) for case in CASES])
def test_with_the_rules_a_counterexample_ends_well(case: Counterexample, mode: str) -> None:
    scripted(case, mode).ends_as(**case.ends)


@pytest.mark.parametrize(
    ("case", "mode"), [pytest.param(case, mode, id=f"{case.play.__name__}-{mode}") for case in CASES for mode in case.affects]
)
def test_without_its_rule_a_counterexample_breaks_its_guarantee(case: Counterexample, mode: str) -> None:
    with pytest.raises(InvariantViolated, match=f"^({case.breaks}):"):
        scripted(case, mode, BUGS[case.bug]).ends_as()


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, id=case.play.__name__) for case in CASES if case.affects == (ORCHESTRATOR,) and "R3 C5" in case.bug],
)
def test_choreography_ends_well_although_refusals_are_repeated(case: Counterexample) -> None:
    scripted(case, CHOREOGRAPHY, BUGS[case.bug]).ends_as(order=case.ends["order"])


# -- which of two legal ends comes out, in the same way in both modes

modes = pytest.mark.parametrize("mode", MODES)


def begun(mode: str, given: Plan) -> Script:
    """A script up to the gateway's answer to the authorization."""
    script = Script(world_of(mode, STOCK, given), given)
    script.handles(PlaceOrder, ReserveStock, AuthorizePayment)
    script.gateway_handles(Verb.AUTHORIZE)
    script.payment_receives_answer()
    return script


@modes
def test_c9_an_order_service_back_too_late_rejects_for_the_deadline(mode: str) -> None:
    script = begun(mode, DECLINED)
    script.handles(ReleaseStock)
    assert script.is_pending(RejectOrder)
    script.deadline_passes()
    script.handles(RejectOrder)
    script.ends_as(order="REJECTED(deadline)")


@modes
def test_c9_an_order_service_back_in_time_rejects_for_the_refusal(mode: str) -> None:
    script = begun(mode, DECLINED)
    script.handles(ReleaseStock, RejectOrder)
    script.ends_as(order="REJECTED(payment_declined)")


@modes
def test_c10_delivery_down_past_the_deadline_completes_the_order(mode: str) -> None:
    script = begun(mode, FINE)
    assert script.is_pending(ScheduleDelivery)
    script.deadline_passes()
    assert script.is_pending(CancelDelivery)
    script.handles(ScheduleDelivery, CancelDelivery)
    scheduled = [
        item for item in script.world.in_flight if isinstance(item, QueuedMessage) and isinstance(item.message, DeliveryScheduled)
    ]
    assert len(scheduled) == 2
    script.ends_as(order="COMPLETED", delivery="SCHEDULED", payment="AUTHORIZED", gateway="authorized", stock="HELD")


@modes
def test_c10_delivery_that_cancels_first_bars_the_pivot(mode: str) -> None:
    script = begun(mode, FINE)
    assert script.is_pending(ScheduleDelivery)
    script.deadline_passes()
    script.handles(CancelDelivery, ScheduleDelivery)
    script.ends_as(order="REJECTED(deadline)", delivery="CANCELLED", payment="VOIDED", gateway="voided", stock="RELEASED")


@modes
def test_c10_an_order_service_down_past_the_deadline_completes_it(mode: str) -> None:
    script = begun(mode, FINE)
    script.handles(ScheduleDelivery)
    assert script.is_pending(CompleteOrder)
    script.deadline_passes()
    script.ends_as(order="COMPLETED", delivery="SCHEDULED")


def contenders(mode: str) -> tuple[Script, Script]:
    """Two orders for the last cup; the gateway declines X."""
    x = Plan(order_id(1), details({"cup": 1}), contending=True, gateway=Decision.DECLINES)
    y = Plan(order_id(2), details({"cup": 1}), contending=True)
    world = world_of(mode, {"cup": 1}, x, y)
    return Script(world, x), Script(world, y)


@modes
def test_c12_an_order_before_the_release_is_out_of_stock(mode: str) -> None:
    x, y = contenders(mode)
    x.handles(PlaceOrder, ReserveStock)
    y.handles(PlaceOrder, ReserveStock)
    x.ends_as(order="REJECTED(payment_declined)")
    y.ends_as(order="REJECTED(out_of_stock)")


@modes
def test_c12_an_order_after_the_release_gets_the_last_unit(mode: str) -> None:
    x, y = contenders(mode)
    x.handles(PlaceOrder, ReserveStock)
    x.ends_as(order="REJECTED(payment_declined)")
    y.handles(PlaceOrder, ReserveStock)
    y.ends_as(order="COMPLETED", stock="HELD")
