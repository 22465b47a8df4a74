"""What a seed means: the orders that are placed, and the faults that strike meanwhile, as a list from which any can be dropped.

Drawn before the run. The orders of a seed are the same in both modes; faults name workers, so each mode
has its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from bootstrap.modes import Mode, roles
from lab.simulation.random_streams import RandomStreams
from services.vocabulary import Line

#: Seconds of virtual time: orders come in the first, faults strike until the second; then everything heals and has to end.
PLACING_S, FAULTS_UNTIL_S = 2.0, 6.0
SKUS = ("book", "lamp", "pen")


class CrashPoint(StrEnum):
    """Where in the loop a worker can be killed exactly: between each two of its steps."""

    BEFORE_LOAD = "before load"
    BEFORE_COMMIT = "before commit"
    BEFORE_ACK = "between commit and acknowledge"
    BEFORE_PUBLISH = "between acknowledge and publish"
    BEFORE_REMOVAL = "between publish and removal of the outbox row"


class FaultKind(StrEnum):
    """What can go wrong."""

    KILL = "kill"  # a worker dies at `at_s`, at whichever await it stands
    KILL_AT = "kill at a point"  # a worker dies at the `nth` time it comes to `point`
    STOP = "stopped in good order"  # a worker is told to end, does so, and is started again
    FREEZE = "freeze"  # a worker stands still; after a while the broker takes its connection for dead
    CUT = "cut"  # a worker loses its connection to the broker
    BROKER_DOWN = "broker down"
    BINDING_LOST = "binding lost"  # somebody takes a worker's queue off its exchanges and puts it back `for_s` later
    STORE_DOWN = "database down"  # a worker's database answers nothing
    CONFLICT = "write conflict"  # the `nth` commit of a worker meets others' writes until its reruns are used up
    COMMIT_LOST = "commit unknown, not written"
    COMMIT_KEPT = "commit unknown, written"
    CONFIRM_LOST = "confirm lost, message there"  # of the `nth` publish of a worker
    PUBLISH_LOST = "confirm lost, message gone"
    DUPLICATE = "duplicate"  # the `nth` message of the run arrives a second time, `for_s` later
    DELAY = "delay"  # the `nth` message arrives `for_s` late
    CLOCK_SKEW = "clock skew"  # a worker's clock is off by `for_s`
    GATEWAY_DOWN = "gateway down"
    ANSWER_LOST = "gateway answer lost"  # the `nth` call has its effect, its caller hears nothing
    CALL_LATE = "gateway call late"  # the `nth` call has its effect `for_s` later, long after its caller gave up
    WITHDRAWAL = "withdrawal"  # the customer of order number `nth` withdraws
    BUSINESS = "business failure"  # order number `nth` carries the failure `where`


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong. Which of the fields count depends on the kind. Times in seconds of virtual time."""

    kind: FaultKind
    where: str = ""
    nth: int = 0
    at_s: float = 0.0
    for_s: float = 0.0
    point: CrashPoint | None = None
    #: For a kill at a point: only while this command is in hand (its name), in place of any.
    handling: str = ""

    def __str__(self) -> str:
        parts = [str(self.kind)]
        parts += [f"at {self.point}" if self.point else ""]
        parts += [f"of {self.where}" if self.where else ""]
        parts += [f"with {self.handling}" if self.handling else ""]
        parts += [f"#{self.nth}" if self.nth else ""]
        parts += [f"at {self.at_s:.2f} s" if self.at_s else ""]
        parts += [f"for {self.for_s:.2f} s" if self.for_s else ""]
        return " ".join(filter(None, parts))


@dataclass(frozen=True, slots=True)
class PlannedOrder:
    """An order of the run; numbers begin with 1."""

    number: int
    at_s: float
    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True)
class SimulationPlan:
    """Everything that is decided before the run. `replicas`: how many of each worker run side by side. `until_s`: how long faults
    may strike."""

    seed: int
    mode: Mode
    orders: tuple[PlannedOrder, ...]
    stock: dict[str, int]
    replicas: int
    faults: tuple[Fault, ...]
    until_s: float = FAULTS_UNTIL_S

    def without_fault(self, fault: Fault) -> "SimulationPlan":
        return replace(self, faults=tuple(other for other in self.faults if other is not fault))

    def faults_of(self, *kinds: FaultKind) -> list[Fault]:
        return [fault for fault in self.faults if fault.kind in kinds]


#: What can go wrong with the machinery, whatever the orders are.
INFRASTRUCTURE_KINDS = tuple(sorted(frozenset(FaultKind) - {FaultKind.BUSINESS, FaultKind.WITHDRAWAL}))

#: Failures that end an order by the business alone, whatever the schedule.
BUSINESS_REFUSALS = ("inventory:out_of_stock", "payment:declined", "delivery:undeliverable")
BUSINESS_FAULTS_DRAWN = (
    *(*BUSINESS_REFUSALS, "payment:pending", "payment:hang", "payment:drop", "payment:error", "payment:slow"),
    *("inventory:late", "payment:late", "delivery:late", "order:duplicate", "inventory:slow", "delivery:error"),
    *("delivery:undeliverable,inventory:undo_error", "delivery:undeliverable,payment:void_error"),
)


def draw_plan(seed: int, mode: Mode) -> SimulationPlan:
    """The plan of a seed in a mode."""
    streams = RandomStreams(seed, "orders")
    orders = tuple(_order(streams, number) for number in range(1, 3 + streams.randrange(4, "count")))
    scarce = streams.random("scarce") < 0.3
    stock = {sku: 1 + streams.randrange(4, "shelf", sku) if scarce else 100 for sku in SKUS}
    replicas = 2 if streams.random("replicas") < 0.3 else 1
    business = [
        Fault(FaultKind.BUSINESS, streams.choice(BUSINESS_FAULTS_DRAWN, "failure", order.number), order.number)
        for order in orders
    ]
    injected = [fault for fault in business if streams.random("suffers", fault.nth) < 0.4]
    withdrawals = [Fault(FaultKind.WITHDRAWAL, "", order.number, _withdrawal_time(streams, order)) for order in orders]
    withdrawn = [fault for fault in withdrawals if streams.random("withdraws", fault.nth) < 0.25]
    faults = (*injected, *withdrawn, *_infrastructure_faults(RandomStreams(seed, "faults", mode), mode))
    return SimulationPlan(seed, mode, orders, stock, replicas, faults)


def draw_plan_without_races(seed: int, mode: Mode) -> SimulationPlan:
    """The orders and business decisions of a seed with ample stock and nothing else: both modes must end alike."""
    plan = draw_plan(seed, mode)
    decided = tuple(fault for fault in plan.faults_of(FaultKind.BUSINESS) if fault.where in BUSINESS_REFUSALS)
    return replace(plan, stock=dict.fromkeys(SKUS, 100), replicas=1, faults=decided)


def _order(streams: RandomStreams, number: int) -> PlannedOrder:
    skus = [sku for sku in SKUS if streams.random("wants", number, sku) < 0.4] or [streams.choice(SKUS, "wants", number)]
    lines = tuple(Line(sku=sku, quantity=1 + streams.randrange(3, "quantity", number, sku)) for sku in skus)
    return PlannedOrder(number, streams.uniform(0.01, PLACING_S, "at", number), lines)


def _withdrawal_time(streams: RandomStreams, order: PlannedOrder) -> float:
    """Mostly within a second of the order, because then it matters; sometimes before it."""
    if streams.random("leaves early", order.number) < 0.2:
        return max(0.001, order.at_s - streams.uniform(0.0, 0.3, "leaves", order.number))
    return order.at_s + streams.uniform(0.0, 0.6, "leaves", order.number) ** 2 * 4


def _infrastructure_faults(streams: RandomStreams, mode: Mode) -> Sequence[Fault]:
    """Up to twelve faults of the machinery, of any kind."""
    workers = tuple(roles(mode))
    count = streams.randrange(13, "count")
    return [
        _fault(streams, index, streams.choice(INFRASTRUCTURE_KINDS, "kind", index), streams.choice(workers, "who", index))
        for index in range(count)
    ]


def _fault(streams: RandomStreams, index: int, kind: FaultKind, worker: str) -> Fault:
    at_s = streams.uniform(0.05, FAULTS_UNTIL_S - 2, "at", index)
    for_s = streams.uniform(0.05, 4.0, "for", index)
    nth = 1 + int(streams.random("nth", index) ** 2 * 10)
    late_s = streams.random("how late", index) ** 2 * 15
    message = 1 + streams.randrange(50, "which", index)
    by_kind = {
        FaultKind.KILL: Fault(kind, worker, at_s=at_s),
        FaultKind.STOP: Fault(kind, worker, at_s=at_s),
        FaultKind.KILL_AT: Fault(kind, worker, nth, point=streams.choice(list(CrashPoint), "point", index)),
        FaultKind.BROKER_DOWN: Fault(kind, at_s=at_s, for_s=for_s),
        FaultKind.GATEWAY_DOWN: Fault(kind, at_s=at_s, for_s=for_s),
        FaultKind.CLOCK_SKEW: Fault(kind, worker, for_s=streams.uniform(-3.0, 3.0, "skew", index)),
        FaultKind.DUPLICATE: Fault(kind, nth=message, for_s=late_s),
        FaultKind.DELAY: Fault(kind, nth=message, for_s=late_s),
        FaultKind.ANSWER_LOST: Fault(kind, nth=1 + nth // 3),
        FaultKind.CALL_LATE: Fault(kind, nth=1 + nth // 3, for_s=1.0 + 2 * for_s),
    }
    lasting = (FaultKind.FREEZE, FaultKind.CUT, FaultKind.STORE_DOWN, FaultKind.BINDING_LOST)
    by_kind |= {lasting_kind: Fault(kind, worker, at_s=at_s, for_s=for_s) for lasting_kind in lasting}
    return by_kind.get(kind, Fault(kind, worker, nth))
