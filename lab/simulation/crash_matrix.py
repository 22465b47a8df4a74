"""The crash matrix: a worker killed at every point of the loop, with every one of its handlers in hand, in both modes.

For each handler a scenario is found in which it has something to do; then the scenario is run once for
each point, with the kill there and nothing else going wrong, and every checker looks at the end.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bootstrap.modes import Mode, roles
from broker.codec import Undecodable, decode
from broker.loop.inputs import Input, Local
from broker.role import Role
from broker.worker import Worker
from lab.simulation.history import History
from lab.simulation.plan import Fault, Kind, Order, Plan, Point
from lab.simulation.ports import SimulatedStore
from lab.simulation.run import simulate
from lab.simulation.world import World
from services.vocabulary import Line

#: The verdicts besides the names of checkers: nothing was found; this handler never comes to that point (it publishes nothing);
#: the order ends otherwise than without the kill.
HOLDS, ABSENT, OTHERWISE = "holds", "-", "ends otherwise"
#: How long the kill may wait for its moment, in seconds of virtual time: longer than a deadline and a budget of attempts.
UNTIL_S = 90.0


def _business(*failures: str) -> tuple[Fault, ...]:
    return tuple(Fault(Kind.BUSINESS, failure, 1) for failure in failures)


#: Name -> what goes wrong in the business of the one order; between them every handler of both modes has something to do.
SCENARIOS: Mapping[str, tuple[Fault, ...]] = {
    "all is well": (),
    "out of stock": _business("inventory:out_of_stock"),
    "declined": _business("payment:declined"),
    "pending": _business("payment:pending"),
    "undeliverable": _business("delivery:undeliverable"),
    "the gateway hangs": _business("payment:hang"),
    "withdrawn": (*_business("payment:pending"), Fault(Kind.WITHDRAWAL, "", 1, 1.0)),
    "withdrawn before it came": (Fault(Kind.WITHDRAWAL, "", 1, 0.001),),
    "delivery fails until the deadline": _business("delivery:error"),
    "stock cannot be given back": _business("delivery:undeliverable", "inventory:undo_error"),
    "the void is not confirmed": _business("delivery:undeliverable", "payment:void_error"),
    "the delivery cannot be cancelled": (
        *_business("delivery:undo_error"),
        Fault(Kind.DELAY, nth=7, for_s=20.0),  # ScheduleDelivery, so that the order's deadline overtakes it
    ),
    "the order cannot be ended": _business("order:undo_error"),
}


class TellingWorker(Worker):
    """The product's worker, whose life knows which commands are in hand."""

    async def handle(self, inputs: Sequence[Input], **options: Any) -> None:  # noqa: ANN401 - passed on
        life = self.store.life if isinstance(self.store, SimulatedStore) else None
        if life:
            life.in_hand = tuple(filter(None, (command_in(item, self.role) for item in inputs)))
            life.history.handlers.update((self.role.worker, name) for name in life.in_hand)
        await super().handle(inputs, **options)
        if life:
            life.in_hand = ()


def command_in(item: Input, role: Role) -> str:
    """The name of the command that an input means to this role; "" for what cannot be decoded."""
    if isinstance(item, Local):
        return type(item.message).__name__
    try:
        message = decode(item.wire, role.types).message
    except Undecodable:
        return ""
    return type(role.accepts[type(message)](message)).__name__


@dataclass(frozen=True, slots=True)
class Cell:
    """One kill. `verdict`: HOLDS, ABSENT, or the checkers that found something."""

    mode: Mode
    worker: str
    handler: str
    point: Point
    scenario: str
    verdict: str


def handlers_of(mode: Mode) -> list[tuple[str, str]]:
    """Every (worker, handler) of a mode that a message or a wait can reach."""
    found = []
    for worker, role in roles(mode).items():
        reachable = {kind.__name__ for kind in role.service.handlers}
        if mode is Mode.ORCHESTRATOR:
            reachable -= {"MarkForAttention"}  # the coordinator keeps that itself
        found += [(worker, name) for name in sorted(reachable)]
    return found


def matrix(
    mode: Mode, *, worker: type[TellingWorker] = TellingWorker, on_progress: Callable[[Cell], None] = lambda _: None
) -> list[Cell]:
    """Every cell of a mode. `worker` is there for tests that switch something off. Raises LookupError for a handler without
    a scenario."""
    scenarios, undisturbed = _scenarios(mode)
    cells = []
    for name, handler in handlers_of(mode):
        scenario = scenarios[name, handler]
        for point in Point:
            kill = Fault(Kind.KILL_AT, name, 1, point=point, handling=handler)
            outcome = simulate(_plan(mode, (*SCENARIOS[scenario], kill)), make_world=_world(worker))
            found_by = {finding.checker for finding in outcome.findings}
            found_by |= {OTHERWISE} if outcome.ends != undisturbed[scenario] else set()
            verdict = ", ".join(sorted(found_by)) or HOLDS
            if kill not in outcome.struck:
                verdict = ABSENT
            cells.append(Cell(mode, name, handler, point, scenario, verdict))
            on_progress(cells[-1])
    return cells


def _scenarios(mode: Mode) -> tuple[dict[tuple[str, str], str], dict[str, dict[int, str]]]:
    """(worker, handler) -> the first scenario in which it has something to do; and how each scenario ends undisturbed."""
    found: dict[tuple[str, str], str] = {}
    ends: dict[str, dict[int, str]] = {}
    for scenario, faults in SCENARIOS.items():
        outcome = simulate(_plan(mode, faults), make_world=_world(TellingWorker))
        ends[scenario] = outcome.ends
        for handler in outcome.handlers:
            found.setdefault(handler, scenario)
    missing = [f"{worker} {handler}" for worker, handler in handlers_of(mode) if (worker, handler) not in found]
    if missing:
        raise LookupError(f"no scenario of the matrix reaches {', '.join(missing)}")
    return found, ends


def _plan(mode: Mode, faults: tuple[Fault, ...]) -> Plan:
    order = Order(1, 0.2, (Line(sku="book", quantity=2),))
    return Plan(1, mode, (order,), {"book": 10}, 1, faults, UNTIL_S)


def _world(worker: type[Worker]) -> Callable[[Plan, History], World]:
    return lambda plan, history: World(plan, history, make_worker=worker)


def as_dict(cells: Sequence[Cell]) -> dict[str, Any]:
    """Mode -> handler -> point -> verdict, as `saga matrix --json` prints it."""
    told: dict[str, Any] = {}
    for cell in cells:
        told.setdefault(str(cell.mode), {}).setdefault(f"{cell.worker} {cell.handler}", {})[str(cell.point)] = cell.verdict
    return told
