"""G3 and G4 of docs/protocol.md#guarantees: what one order costs at most, and what keeps an order from ending."""

from dataclasses import replace
from random import Random

import pytest

from lab.invariants import InvariantViolated
from services.payment.domain import Payment
from services.payment.messages import Answer
from tests.support.protocol.driver import Driver, end_of, run
from tests.support.protocol.gateway_model import Decision, GatewayModel
from tests.support.protocol.harness import details, order_id
from tests.support.protocol.scenario import STOCK, Plan, Scenario
from tests.support.protocol.world import MODES, World

modes = pytest.mark.parametrize("mode", MODES)
SEEDS = 2_000

# -- G4: deliveries to a consumer that one order costs at most: (orchestrator, choreography)

AT_MOST = {
    "COMPLETED": (10, 5),
    "REJECTED(out_of_stock)": (6, 3),
    "REJECTED(unknown_sku)": (6, 3),
    "REJECTED(payment_declined)": (10, 5),
    "REJECTED(undeliverable)": (14, 7),
}
AT_MOST_WITHDRAWN = (18, 12)
AT_MOST_WITHDRAWN_AND_OVERDUE = (20, 17)


@modes
def test_without_duplicates_an_order_costs_a_bounded_number_of_deliveries(mode: str) -> None:
    choreographed = list(MODES).index(mode)
    most = 0
    for seed in range(SEEDS):
        rng = Random(seed)
        scenario = Scenario.single(rng)
        plan = scenario.plans[0]
        world = run(mode, replace(scenario, duplicates=0, plans=(replace(plan, withdrawals=plan.withdrawals[:1]),)), rng)
        overdue = sum(line.startswith("the deadline") for line in world.trace)
        if overdue > 1:
            continue  # repeated withdrawals are redrives and do not count
        count = world.deliveries[plan.order_id]
        if overdue or plan.withdrawals:
            limits = AT_MOST_WITHDRAWN_AND_OVERDUE if overdue and plan.withdrawals else AT_MOST_WITHDRAWN
            assert count <= limits[choreographed], "\n".join(world.trace)
            most = max(most, count)
        elif plan.order_id not in world.payment_timed_out:
            assert count == AT_MOST[end_of(world)][choreographed], "\n".join(world.trace)
    assert most >= AT_MOST_WITHDRAWN[choreographed], "the bound of the page was reached"


# -- G3: what keeps an order from ending


class NeverVoids(GatewayModel):
    """A gateway that answers no void and stores none."""

    def void(self, order_id: str) -> Answer | None:
        return None


def stuck(mode: str, model: type[GatewayModel], plan: Plan, *, authorization_timeout: bool) -> World:
    rng = Random(1)
    world = World(mode, model({plan.order_id: plan.gateway}), STOCK, rank=rng.random)
    with pytest.raises(InvariantViolated, match="G3: the order never ends"):
        Driver(world, Scenario((plan,), STOCK, authorization_timeout=authorization_timeout), rng).run()
    return world


@modes
@pytest.mark.parametrize("decision", [decision for decision in Decision if decision.hangs])
def test_a_hanging_gateway_and_no_timer_leave_the_order_pending(mode: str, decision: Decision) -> None:
    plan = Plan(order_id(1), details({"cup": 2}), gateway=decision)
    world = stuck(mode, GatewayModel, plan, authorization_timeout=False)
    assert world.order_snapshot(plan.order_id).states() | {"gateway": ""} == {
        "order": "PENDING", "stock": "HELD", "payment": "PENDING", "delivery": "none", "gateway": "",
    }  # fmt: skip


@modes
def test_an_order_whose_void_never_succeeds_stays_pending(mode: str) -> None:
    plan = Plan(order_id(1), details({"cup": 2}), gateway=Decision.MUTE)
    world = stuck(mode, NeverVoids, plan, authorization_timeout=True)
    assert world.order_snapshot(plan.order_id).states() == {
        "order": "PENDING", "stock": "HELD", "payment": "VOIDING", "delivery": "none", "gateway": "authorized",
    }  # fmt: skip
    payment = world.find(Payment, plan.order_id)
    assert payment is not None
    assert payment.due_at is not None, "it goes on polling"
