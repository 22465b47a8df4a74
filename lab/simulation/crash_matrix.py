"""The crash matrix: a worker is killed at every point of its loop while each of its handlers is in progress, in both modes.

For each handler, a scenario is found that reaches it. The scenario is run once for each point with a kill there and no other
infrastructure fault, and every checker is applied.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bootstrap.modes import Mode, roles
from broker.codec import Undecodable, decode
from broker.loop.inputs import Input, LocalInput
from broker.role import Role
from broker.worker import Worker
from lab.simulation.cluster import SimulatedCluster
from lab.simulation.history import SimulationHistory
from lab.simulation.plan import CrashPoint, Fault, FaultKind, PlannedOrder, SimulationPlan
from lab.simulation.ports import SimulatedStore
from lab.simulation.run import simulate
from services.vocabulary import Line

#: The verdicts besides the names of checkers: no violation; the handler never reaches the point, because it publishes nothing;
#: the order does not end as it does without the kill.
PASSED, NOT_REACHED, DIFFERENT_END = "holds", "-", "ends otherwise"
#: Within how many seconds of virtual time the kill may occur: longer than the deadline and a message's retry budget.
KILL_WITHIN_S = 90.0


def _business_faults(*failures: str) -> tuple[Fault, ...]:
    return tuple(Fault(FaultKind.BUSINESS, failure, 1) for failure in failures)


#: Name -> the faults of the one order. Together the scenarios reach every handler of both modes.
SCENARIOS: Mapping[str, tuple[Fault, ...]] = {
    "happy path": (),
    "out of stock": _business_faults("inventory:out_of_stock"),
    "declined": _business_faults("payment:declined"),
    "pending": _business_faults("payment:pending"),
    "undeliverable": _business_faults("delivery:undeliverable"),
    "gateway hangs": _business_faults("payment:hang"),
    "withdrawn": (*_business_faults("payment:pending"), Fault(FaultKind.WITHDRAWAL, "", 1, 1.0)),
    "withdrawn before it is placed": (Fault(FaultKind.WITHDRAWAL, "", 1, 0.001),),
    "delivery fails until the deadline": _business_faults("delivery:error"),
    "stock release fails": _business_faults("delivery:undeliverable", "inventory:undo_error"),
    "void fails": _business_faults("delivery:undeliverable", "payment:void_error"),
    "delivery cancellation fails": (
        *_business_faults("delivery:undo_error"),
        Fault(FaultKind.DELAY, nth=7, for_s=20.0),  # ScheduleDelivery, so that the order's deadline overtakes it
    ),
    "order rejection fails": _business_faults("order:undo_error"),
}


class InstrumentedWorker(Worker):
    """The product's worker, which also tells its simulated process the commands in progress."""

    async def handle(self, inputs: Sequence[Input], **options: Any) -> None:  # noqa: ANN401 - passed on
        process = self.store.process if isinstance(self.store, SimulatedStore) else None
        if process:
            process.commands_in_progress = tuple(filter(None, (command_of(item, self.role) for item in inputs)))
            process.history.handled_commands.update((self.role.worker, name) for name in process.commands_in_progress)
        await super().handle(inputs, **options)
        if process:
            process.commands_in_progress = ()


def command_of(item: Input, role: Role) -> str:
    """The name of the command that an input means to this role; "" if it cannot be decoded."""
    if isinstance(item, LocalInput):
        return type(item.message).__name__
    try:
        message = decode(item.wire, role.types).message
    except Undecodable:
        return ""
    return type(role.accepts[type(message)](message)).__name__


@dataclass(frozen=True, slots=True)
class Cell:
    """The result of one kill. `verdict`: PASSED, NOT_REACHED, or what was found: names of checkers and DIFFERENT_END."""

    mode: Mode
    worker: str
    handler: str
    point: CrashPoint
    scenario: str
    verdict: str


def handlers_of(mode: Mode) -> list[tuple[str, str]]:
    """Every (worker, handler) of a mode that a message or a timer can reach."""
    found = []
    for worker, role in roles(mode).items():
        reachable = {kind.__name__ for kind in role.service.handlers}
        if mode is Mode.ORCHESTRATOR:
            reachable -= {"MarkForAttention"}  # the coordinator records attention itself
        found += [(worker, name) for name in sorted(reachable)]
    return found


def run_matrix(
    mode: Mode, *, worker: type[InstrumentedWorker] = InstrumentedWorker, on_progress: Callable[[Cell], None] = lambda _: None
) -> list[Cell]:
    """Run every cell of a mode. `worker`: for tests that plant a bug. Raises LookupError for a handler that no scenario
    reaches."""
    scenarios, baseline_ends = _find_scenarios(mode)
    cells = []
    for name, handler in handlers_of(mode):
        scenario = scenarios[name, handler]
        for point in CrashPoint:
            kill = Fault(FaultKind.KILL_AT, name, 1, point=point, handling=handler)
            outcome = simulate(_plan(mode, (*SCENARIOS[scenario], kill)), make_cluster=_cluster_factory(worker))
            failed_checkers = {finding.checker for finding in outcome.violations}
            failed_checkers |= {DIFFERENT_END} if outcome.ends != baseline_ends[scenario] else set()
            verdict = ", ".join(sorted(failed_checkers)) or PASSED
            if kill not in outcome.triggered_faults:
                verdict = NOT_REACHED
            cells.append(Cell(mode, name, handler, point, scenario, verdict))
            on_progress(cells[-1])
    return cells


def _find_scenarios(mode: Mode) -> tuple[dict[tuple[str, str], str], dict[str, dict[int, str]]]:
    """(worker, handler) -> the first scenario that reaches it; and scenario -> order number -> its end without a kill."""
    found: dict[tuple[str, str], str] = {}
    ends: dict[str, dict[int, str]] = {}
    for scenario, faults in SCENARIOS.items():
        outcome = simulate(_plan(mode, faults), make_cluster=_cluster_factory(InstrumentedWorker))
        ends[scenario] = outcome.ends
        for handler in outcome.handled_commands:
            found.setdefault(handler, scenario)
    missing = [f"{worker} {handler}" for worker, handler in handlers_of(mode) if (worker, handler) not in found]
    if missing:
        raise LookupError(f"no scenario reaches {', '.join(missing)}: add one to SCENARIOS in lab/simulation/crash_matrix.py")
    return found, ends


def _plan(mode: Mode, faults: tuple[Fault, ...]) -> SimulationPlan:
    order = PlannedOrder(1, 0.2, (Line(sku="book", quantity=2),))
    return SimulationPlan(1, mode, (order,), {"book": 10}, 1, faults, KILL_WITHIN_S)


def _cluster_factory(worker: type[Worker]) -> Callable[[SimulationPlan, SimulationHistory], SimulatedCluster]:
    return lambda plan, history: SimulatedCluster(plan, history, make_worker=worker)


def as_dict(cells: Sequence[Cell]) -> dict[str, Any]:
    """Mode -> handler -> point -> verdict, as `saga matrix --json` prints it."""
    result: dict[str, Any] = {}
    for cell in cells:
        result.setdefault(str(cell.mode), {}).setdefault(f"{cell.worker} {cell.handler}", {})[str(cell.point)] = cell.verdict
    return result
