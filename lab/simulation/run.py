"""The run of one plan: start the cluster, inject the faults, end them, wait until it is idle, check everything.

`simulate(draw_plan(seed, mode))` runs a seed.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from bootstrap.modes import Mode
from lab.simulation.checkers import RunChecker
from lab.simulation.cluster import SimulatedCluster
from lab.simulation.history import SimulationHistory, Violation
from lab.simulation.plan import Fault, SimulationPlan
from lab.virtual_time import DeadlockError, run_on_virtual_time
from ops.snapshot import Snapshot
from services.order.domain import Order, OrderState

#: Within how many seconds of virtual time after the faults the cluster must be idle.
IDLE_TIMEOUT_S = 240.0

MakeCluster = Callable[[SimulationPlan, SimulationHistory], SimulatedCluster]


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """The outcome of a run. `triggered_faults`: the faults that took effect. `ends`: order number -> state and reason.
    `compensations`: orders whose stock was released. `attention`: orders that needed attention. `duplicates`: how often a worker
    acknowledged a message again."""

    seed: int
    mode: Mode
    violations: tuple[Violation, ...]
    triggered_faults: tuple[Fault, ...]
    ends: dict[int, str]
    #: Order number -> the states its documents went through.
    paths: dict[int, tuple[str, ...]]
    compensations: int
    attention: int
    duplicates: int
    digest: str
    trace: tuple[str, ...] = field(repr=False, default=())
    #: (worker, command) of every command handled; filled by crash_matrix.InstrumentedWorker only.
    handled_commands: frozenset[tuple[str, str]] = frozenset()

    @property
    def faults(self) -> Counter[str]:
        """Kind of fault -> how often it took effect."""
        return Counter(str(fault.kind) for fault in self.triggered_faults)

    @property
    def failed(self) -> bool:
        return bool(self.violations)


def simulate(plan: SimulationPlan, *, make_cluster: MakeCluster = SimulatedCluster) -> RunOutcome:
    """Run a plan to its end on virtual time."""
    history = SimulationHistory()
    try:
        cluster, snapshot = run_on_virtual_time(_run(plan, history, make_cluster))
    except DeadlockError:
        history.violations.append(Violation("everything ends", "deadlock: every task waits and no timer is set"))
        return _outcome(plan, history, {}, {}, 0)
    paths = {number: history.path(order_id) for number, order_id in cluster.order_ids.items()}
    ends = {number: _end(snapshot.orders.get(order_id)) for number, order_id in cluster.order_ids.items()}
    compensations = sum(r.state == "RELEASED" and bool(r.quantities) for r in snapshot.reservations.values())
    return _outcome(plan, history, ends, paths, compensations)


async def _run(plan: SimulationPlan, history: SimulationHistory, make_cluster: MakeCluster) -> tuple[SimulatedCluster, Snapshot]:
    cluster = make_cluster(plan, history)
    checker = RunChecker(cluster, history)
    history.on_change = checker.after_step
    idle = False
    try:
        await cluster.open()
        await cluster.run_faults()
        cluster.heal()
        idle = await cluster.wait_until_idle(IDLE_TIMEOUT_S, ignore_attention=True)
        if needing_attention_ids := cluster.orders_needing_attention():
            checker.check_attention(needing_attention_ids)
            await cluster.redrive(needing_attention_ids)
            idle = await cluster.wait_until_idle(IDLE_TIMEOUT_S, ignore_attention=False)
    except Exception as error:  # noqa: BLE001 - any error of a worker is a finding
        history.add_violation("workers live", f"{type(error).__name__}: {error}")
    snapshot = await checker.check_final_state(idle=idle)
    await cluster.close()
    return cluster, snapshot


def _end(order: Order | None) -> str:
    if order is None or order.state is OrderState.TOMBSTONE:
        return "never placed"
    return f"{order.state} {order.reason}" if order.reason else str(order.state)


def _outcome(
    plan: SimulationPlan, history: SimulationHistory, ends: dict[int, str], paths: dict[int, tuple[str, ...]], compensations: int
) -> RunOutcome:
    return RunOutcome(
        plan.seed,
        plan.mode,
        tuple(history.violations),
        tuple(history.triggered_faults),
        ends,
        paths,
        compensations,
        len(history.needed_attention),
        sum(history.acknowledgements.values()) - len(history.acknowledgements),
        history.digest(),
        tuple(history.trace_lines),
        frozenset(history.handled_commands),
    )
