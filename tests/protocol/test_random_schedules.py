"""Both modes' real handlers in random order, with duplicates, losses, withdrawals, timers and outages: G1 to G5 hold.

Each seed is one scenario and one schedule (driver.py). G1, G2 and the legal ends are checked after every step
(lab/invariants.py), G3 and G5 when nothing is left to do. A failure prints its schedule; `run(mode, *drawn(seed))` repeats it.
"""

from collections import Counter
from dataclasses import dataclass, field
from functools import cache
from random import Random

import pytest

from lab.invariants import InvariantViolated
from services.order.domain import Order, OrderState
from services.order.messages import Refusal, WithdrawOrder
from services.vocabulary import Reason
from tests.support.protocol.driver import decisions, end_of, run
from tests.support.protocol.gateway_model import GatewayModel
from tests.support.protocol.harness import details, order_id
from tests.support.protocol.scenario import STOCK, Plan, Scenario
from tests.support.protocol.world import MODES, World

SEEDS = 6_000
CROWDS = 300

ANSWERS = ("authorized", "declined", "voided", "pending", "in_doubt")
#: Every input of a service, with every state in which it may arrive.
CELLS = {
    (command, state)
    for commands, states in (
        (
            ["PlaceOrder", "WithdrawOrder", "CompleteOrder", "RejectOrder", "DeadlinePassed"],
            "none TOMBSTONE PENDING COMPLETED REJECTED",
        ),
        (["ReserveStock", "ReleaseStock"], "none HELD REJECTED RELEASED"),
        (
            [
                *("AuthorizePayment", "VoidPayment", "PollGateway"),
                *(f"GatewayAnswered {answer} to authorize" for answer in ANSWERS),
                *(f"GatewayAnswered {answer} to void" for answer in ("voided", "in_doubt")),
            ],
            "none PENDING VOIDING AUTHORIZED DECLINED VOIDED",
        ),
        (["ScheduleDelivery", "CancelDelivery"], "none SCHEDULED REJECTED CANCELLED"),
    )
    for command in commands
    for state in states.split()
}
#: Cells that no schedule reaches: those marked as bugs in the tables (the handler raises), and answers that contradict an earlier
#: final answer of the gateway.
OUT_OF_REACH = {
    *((command, state) for command in ("CompleteOrder", "RejectOrder") for state in ("none", "TOMBSTONE")),
    ("CompleteOrder", "REJECTED"),
    ("RejectOrder", "COMPLETED"),
    *((f"GatewayAnswered {answer} to authorize", "none") for answer in ANSWERS),
    *((f"GatewayAnswered {answer} to authorize", "AUTHORIZED") for answer in ("declined", "voided")),
    *(
        (f"GatewayAnswered {answer} to void", state)
        for answer in ("voided", "in_doubt")
        for state in ("none", "PENDING", "AUTHORIZED")
    ),
}


@dataclass(slots=True)
class Exploration:
    """What happened in all runs of one mode. `broken`: the first failure."""

    broken: InvariantViolated | None = None
    ends: Counter[str] = field(default_factory=Counter)
    cells: set[tuple[str, str]] = field(default_factory=set)
    #: What happened, by its words in the trace -> in how many runs.
    happened: Counter[str] = field(default_factory=Counter)


def drawn(seed: int) -> tuple[Scenario, Random]:
    rng = Random(seed)
    return Scenario.single(rng), rng


@cache
def explored(mode: str) -> Exploration:
    """Run every seed once in this mode, for the tests below."""
    seen = Exploration()
    for seed in range(SEEDS):
        try:
            world = run(mode, *drawn(seed))
        except InvariantViolated as broken:
            broken.add_note(f"seed {seed}")
            seen.broken = broken
            break
        seen.cells |= world.cells
        seen.ends[end_of(world)] += 1
        seen.happened.update(words(world))
    return seen


def words(world: World) -> set[str]:
    story = "\n".join(world.trace)
    faults = ("lost:", "crashes before its commit", "in_doubt", "authorization times out", "deadline passes", "polls the gateway")
    happened = {fault for fault in faults if fault in story}
    return happened | {refusal.value for _, refusal in world.refusals} | ({"withdrawn"} if world.first_withdrawal else set())


modes = pytest.mark.parametrize("mode", MODES)


@modes
def test_the_guarantees_hold_in_every_schedule(mode: str) -> None:
    seen = explored(mode)
    if seen.broken:
        raise seen.broken
    assert sum(seen.ends.values()) == SEEDS


@modes
def test_the_schedules_reached_every_end_and_every_fault(mode: str) -> None:
    seen = explored(mode)
    assert set(seen.ends) == {"COMPLETED", *(f"REJECTED({reason})" for reason in Reason)}
    assert min(seen.ends.values()) > SEEDS / 100
    expected = {
        "lost:",
        "crashes before its commit",
        "in_doubt",
        "authorization times out",
        "deadline passes",
        "polls the gateway",
        "withdrawn",
        *Refusal,
    }
    assert set(seen.happened) == expected
    assert min(seen.happened.values()) > SEEDS / 100


def test_the_schedules_reached_every_reachable_cell_of_the_tables() -> None:
    reached = set().union(*(explored(mode).cells for mode in MODES))
    assert CELLS - OUT_OF_REACH - reached == set()


def test_both_modes_end_alike_without_withdrawals_and_timers() -> None:
    ends = Counter[str]()
    for seed in range(SEEDS // 6):
        scenario, rng = drawn(seed)
        first, second = (end_of(run(mode, scenario.quiet(), Random(rng.random()))) for mode in MODES)
        assert first == second, f"seed {seed}: {scenario}"
        ends[first] += 1
    assert set(ends) == {
        "COMPLETED",
        *(f"REJECTED({reason})" for reason in ("out_of_stock", "unknown_sku", "payment_declined", "undeliverable")),
    }


@modes
def test_an_order_that_races_its_withdrawal_has_two_legal_ends(mode: str) -> None:
    """No service refuses, so the pivot alone decides. A withdrawal that came too late is answered."""
    ends = Counter[str]()
    for seed in range(400):
        rng = Random(seed)
        plan = Plan(order_id(1), details({"cup": 2}), withdrawals=(rng.randrange(14),))
        world = run(mode, Scenario((plan,), STOCK), rng)
        ends[end_of(world)] += 1
        refused = {refusal for _, refusal in world.refusals}
        late = Refusal.TOO_LATE if world.first_withdrawal else Refusal.ALREADY_ENDED
        assert refused == ({late} if end_of(world) == "COMPLETED" else set())
    assert set(ends) == {"COMPLETED", "REJECTED(withdrawn)"}
    assert min(ends.values()) > 20


@modes
def test_competing_orders_never_share_a_unit_of_scarce_stock(mode: str) -> None:
    """Six orders at once. Conservation is checked whenever a reservation changes, G1 to G5 for each order."""
    ends = Counter[str]()
    sold_out = 0
    for seed in range(CROWDS):
        rng = Random(seed)
        scenario = Scenario.crowd(rng)
        world = run(mode, scenario, rng)
        orders = [end_of(world, plan.order_id) for plan in scenario.plans]
        ends.update(orders)
        sold_out += "REJECTED(out_of_stock)" in orders and "COMPLETED" in orders
    assert sold_out > CROWDS / 4, "stock was scarce, and some orders got it"
    assert ends["REJECTED(withdrawn)"] > CROWDS / 10


# -- the driver itself


@modes
def test_the_same_seed_gives_the_same_schedule(mode: str) -> None:
    traces = [[run(mode, *drawn(seed)).trace for seed in range(50)] for _ in range(2)]
    assert traces[0] == traces[1]


def test_the_first_withdrawal_is_taken_from_the_commands() -> None:
    """The checker knows the first accepted withdrawal from the commands, not from the documents that it checks."""
    plan = Plan(order_id(1), details({"cup": 2}))
    world = World("choreography", GatewayModel({}), STOCK)
    world.handle("order", WithdrawOrder(order_id=plan.order_id, reason=Reason.WITHDRAWN))
    order = world.find(Order, plan.order_id)
    assert order is not None
    assert order.state is OrderState.TOMBSTONE
    assert decisions(world, plan).withdrawn is Reason.WITHDRAWN
