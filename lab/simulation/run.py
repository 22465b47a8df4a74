"""One run of one seed: the plan, the world, the faults, the healing, the judgement.

`simulate(plan_of(seed, mode))` is the whole of it.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from bootstrap.modes import Mode
from lab.simulation.checkers import Judge
from lab.simulation.history import Finding, History
from lab.simulation.plan import Fault, Plan
from lab.simulation.world import World
from lab.virtual_time import NothingLeftToHappenError, run_virtually
from ops.snapshot import Snapshot
from services.order.domain import Order, OrderState

#: Seconds of virtual time until everything must have come to rest after the faults are over.
REST_S = 240.0

MakeWorld = Callable[[Plan, History], World]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a run. `struck`: the faults that had their effect. `ends`: order number -> state and reason. `duplicates`:
    messages that a worker acknowledged more than once. `attention`: orders that needed a person."""

    seed: int
    mode: Mode
    findings: tuple[Finding, ...]
    struck: tuple[Fault, ...]
    ends: dict[int, str]
    #: Order number -> the states its documents went through.
    paths: dict[int, tuple[str, ...]]
    compensations: int
    attention: int
    duplicates: int
    digest: str
    trace: tuple[str, ...] = field(repr=False, default=())
    #: (worker, command) of everything that was in some worker's hands, where workers tell.
    handlers: frozenset[tuple[str, str]] = frozenset()

    @property
    def faults(self) -> Counter[str]:
        """Kind of fault -> how often it had its effect."""
        return Counter(str(fault.kind) for fault in self.struck)

    @property
    def failed(self) -> bool:
        return bool(self.findings)


def simulate(plan: Plan, *, make_world: MakeWorld = World) -> Outcome:
    """Run a plan to its end on virtual time."""
    history = History()
    try:
        world, seen = run_virtually(_run(plan, history, make_world))
    except NothingLeftToHappenError:
        history.findings.append(Finding("everything ends", "deadlock: everything waits for something that can never happen"))
        return _outcome(plan, history, {}, {}, 0)
    paths = {number: history.path(order_id) for number, order_id in world.order_ids.items()}
    ends = {number: _end(seen.orders.get(order_id)) for number, order_id in world.order_ids.items()}
    undone = sum(r.state == "RELEASED" and bool(r.quantities) for r in seen.reservations.values())
    return _outcome(plan, history, ends, paths, undone)


async def _run(plan: Plan, history: History, make_world: MakeWorld) -> tuple[World, Snapshot]:
    world = make_world(plan, history)
    judge = Judge(world, history)
    history.on_change = judge.after_step
    rested = False
    try:
        await world.open()
        await world.strike()
        world.heal()
        rested = await world.at_rest(REST_S, stuck_may_wait=True)
        if stuck := world.stuck():
            judge.may_be_stuck(stuck)
            await world.redrive(stuck)
            rested = await world.at_rest(REST_S, stuck_may_wait=False)
    except Exception as error:  # noqa: BLE001 - whatever a worker dies of is what we are looking for
        history.found("workers live", f"{type(error).__name__}: {error}")
    seen = await judge.at_the_end(rested=rested)
    await world.close()
    return world, seen


def _end(order: Order | None) -> str:
    if order is None or order.state is OrderState.TOMBSTONE:
        return "never placed"
    return f"{order.state} {order.reason}" if order.reason else str(order.state)


def _outcome(
    plan: Plan, history: History, ends: dict[int, str], paths: dict[int, tuple[str, ...]], compensations: int
) -> Outcome:
    return Outcome(
        plan.seed,
        plan.mode,
        tuple(history.findings),
        tuple(history.struck),
        ends,
        paths,
        compensations,
        len(history.once_stuck),
        sum(history.acknowledged.values()) - len(history.acknowledged),
        history.digest(),
        tuple(history.lines),
        frozenset(history.handlers),
    )
