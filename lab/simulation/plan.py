"""The plan of a run: the orders placed and the faults injected, drawn from a seed before the run.

Any fault can be removed from a plan without changing the rest of it. The orders of a seed are the same in both modes; faults name
workers, so each mode has its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from bootstrap.modes import Mode, roles
from lab.simulation.random_streams import Draw, RandomStreams, Stream
from services.vocabulary import Line

#: Orders are placed within the first `PLACING_S` seconds of virtual time, faults are injected until `FAULTS_UNTIL_S`; then all
#: faults end and every order must end. Bounds of draws, frozen like the values in lab/simulation/random_streams.py.
PLACING_S, FAULTS_UNTIL_S = 2.0, 6.0
#: Part of draw names and drawn by index: values and order are frozen.
SKUS = ("book", "lamp", "pen")


class CrashPoint(StrEnum):
    """The points between two steps of the loop at which a worker can be killed.

    Drawn by index and printed in traces: values and order are frozen."""

    BEFORE_LOAD = "before load"
    BEFORE_COMMIT = "before commit"
    BEFORE_ACK = "between commit and acknowledge"
    BEFORE_PUBLISH = "between acknowledge and publish"
    BEFORE_REMOVAL = "between publish and removal of the outbox row"


class FaultKind(StrEnum):
    """The kinds of faults.

    Drawn by index from the sorted values and printed in traces: values are frozen."""

    KILL = "kill"  # a worker is killed at `at_s`, wherever it awaits
    KILL_AT = "kill at a point"  # a worker is killed the `nth` time it reaches `point`
    STOP = "stopped in good order"  # a worker is shut down and started again
    FREEZE = "freeze"  # a worker stands still; after a while the broker closes its connection
    CUT = "cut"  # a worker loses its connection to the broker
    BROKER_DOWN = "broker down"
    BINDING_LOST = "binding lost"  # a worker's queue is unbound from its exchanges, and bound again `for_s` later
    STORE_DOWN = "database down"  # a worker's database does not answer
    CONFLICT = "write conflict"  # the `nth` commit of a worker conflicts with other writes until its attempts are used up
    COMMIT_LOST = "commit unknown, not written"
    COMMIT_KEPT = "commit unknown, written"
    CONFIRM_LOST = "confirm lost, message there"  # of the `nth` publish of a worker
    PUBLISH_LOST = "confirm lost, message gone"
    DUPLICATE = "duplicate"  # the `nth` message of the run arrives a second time, `for_s` later
    DELAY = "delay"  # the `nth` message of the run arrives `for_s` late
    CLOCK_SKEW = "clock skew"  # a worker's clock is off by `for_s`
    GATEWAY_DOWN = "gateway down"
    ANSWER_LOST = "gateway answer lost"  # the `nth` call takes effect, its answer is lost
    CALL_LATE = "gateway call late"  # the `nth` call takes effect `for_s` later, after its caller has timed out
    WITHDRAWAL = "withdrawal"  # the customer of order number `nth` withdraws
    BUSINESS = "business failure"  # order number `nth` carries the injected failure `where`


@dataclass(frozen=True, slots=True)
class Fault:
    """One planned fault. The kind determines which fields are used. Times are in seconds of virtual time."""

    kind: FaultKind
    where: str = ""
    nth: int = 0
    at_s: float = 0.0
    for_s: float = 0.0
    point: CrashPoint | None = None
    #: For a kill at a point: the name of the command that must be in progress; empty for any.
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
    """An order of the run. Numbers begin at 1."""

    number: int
    at_s: float
    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True)
class SimulationPlan:
    """Everything decided before the run. `replicas`: how many instances of each worker run. `until_s`: when the faults end, in
    seconds of virtual time."""

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


#: The kinds of faults that do not depend on the orders. Drawn by index: the order is frozen.
INFRASTRUCTURE_KINDS = tuple(sorted(frozenset(FaultKind) - {FaultKind.BUSINESS, FaultKind.WITHDRAWAL}))

#: Failures that decide an order's end in every schedule. Drawn by index, as are the following: values and order are frozen.
BUSINESS_REFUSALS = ("inventory:out_of_stock", "payment:declined", "delivery:undeliverable")
BUSINESS_FAULTS_DRAWN = (
    *(*BUSINESS_REFUSALS, "payment:pending", "payment:hang", "payment:drop", "payment:error", "payment:slow"),
    *("inventory:late", "payment:late", "delivery:late", "order:duplicate", "inventory:slow", "delivery:error"),
    *("delivery:undeliverable,inventory:undo_error", "delivery:undeliverable,payment:void_error"),
)


def draw_plan(seed: int, mode: Mode) -> SimulationPlan:
    """Draw the plan of a seed in a mode."""
    streams = RandomStreams(seed, Stream.ORDERS)
    orders = tuple(_order(streams, number) for number in range(1, 3 + streams.randrange(4, Draw.COUNT)))
    scarce = streams.random(Draw.SCARCE_STOCK) < 0.3
    stock = {sku: 1 + streams.randrange(4, Draw.STOCK, sku) if scarce else 100 for sku in SKUS}
    replicas = 2 if streams.random(Draw.REPLICAS) < 0.3 else 1
    business = [
        Fault(FaultKind.BUSINESS, streams.choice(BUSINESS_FAULTS_DRAWN, Draw.BUSINESS_FAULT, order.number), order.number)
        for order in orders
    ]
    injected = [fault for fault in business if streams.random(Draw.HAS_BUSINESS_FAULT, fault.nth) < 0.4]
    withdrawals = [Fault(FaultKind.WITHDRAWAL, "", order.number, _withdrawal_time(streams, order)) for order in orders]
    withdrawn = [fault for fault in withdrawals if streams.random(Draw.IS_WITHDRAWN, fault.nth) < 0.25]
    faults = (*injected, *withdrawn, *_infrastructure_faults(RandomStreams(seed, Stream.FAULTS, mode), mode))
    return SimulationPlan(seed, mode, orders, stock, replicas, faults)


def draw_plan_without_races(seed: int, mode: Mode) -> SimulationPlan:
    """Draw the orders and business decisions of a seed, with ample stock and no other faults: both modes must end alike."""
    plan = draw_plan(seed, mode)
    decided = tuple(fault for fault in plan.faults_of(FaultKind.BUSINESS) if fault.where in BUSINESS_REFUSALS)
    return replace(plan, stock=dict.fromkeys(SKUS, 100), replicas=1, faults=decided)


def _order(streams: RandomStreams, number: int) -> PlannedOrder:
    skus = [sku for sku in SKUS if streams.random(Draw.SKU, number, sku) < 0.4] or [streams.choice(SKUS, Draw.SKU, number)]
    lines = tuple(Line(sku=sku, quantity=1 + streams.randrange(3, Draw.QUANTITY, number, sku)) for sku in skus)
    return PlannedOrder(number, streams.uniform(0.01, PLACING_S, Draw.TIME, number), lines)


def _withdrawal_time(streams: RandomStreams, order: PlannedOrder) -> float:
    """Draw a time, usually shortly after the order, while it is in progress; sometimes before it."""
    if streams.random(Draw.IS_WITHDRAWN_EARLY, order.number) < 0.2:
        return max(0.001, order.at_s - streams.uniform(0.0, 0.3, Draw.WITHDRAWAL_TIME, order.number))
    return order.at_s + streams.uniform(0.0, 0.6, Draw.WITHDRAWAL_TIME, order.number) ** 2 * 4


def _infrastructure_faults(streams: RandomStreams, mode: Mode) -> Sequence[Fault]:
    """Draw up to twelve infrastructure faults of any kind."""
    workers = tuple(roles(mode))  # drawn by index: the order of a mode's roles is frozen
    return [
        _fault(
            streams,
            index,
            streams.choice(INFRASTRUCTURE_KINDS, Draw.FAULT_KIND, index),
            streams.choice(workers, Draw.WORKER, index),
        )
        for index in range(streams.randrange(13, Draw.COUNT))
    ]


def _fault(streams: RandomStreams, index: int, kind: FaultKind, worker: str) -> Fault:
    at_s = streams.uniform(0.05, FAULTS_UNTIL_S - 2, Draw.TIME, index)
    for_s = streams.uniform(0.05, 4.0, Draw.DURATION, index)
    nth = 1 + int(streams.random(Draw.NTH, index) ** 2 * 10)
    late_s = streams.random(Draw.ARRIVAL_DELAY, index) ** 2 * 15
    message = 1 + streams.randrange(50, Draw.MESSAGE, index)
    by_kind = {
        FaultKind.KILL: Fault(kind, worker, at_s=at_s),
        FaultKind.STOP: Fault(kind, worker, at_s=at_s),
        FaultKind.KILL_AT: Fault(kind, worker, nth, point=streams.choice(list(CrashPoint), Draw.CRASH_POINT, index)),
        FaultKind.BROKER_DOWN: Fault(kind, at_s=at_s, for_s=for_s),
        FaultKind.GATEWAY_DOWN: Fault(kind, at_s=at_s, for_s=for_s),
        FaultKind.CLOCK_SKEW: Fault(kind, worker, for_s=streams.uniform(-3.0, 3.0, Draw.CLOCK_SKEW, index)),
        FaultKind.DUPLICATE: Fault(kind, nth=message, for_s=late_s),
        FaultKind.DELAY: Fault(kind, nth=message, for_s=late_s),
        FaultKind.ANSWER_LOST: Fault(kind, nth=1 + nth // 3),
        FaultKind.CALL_LATE: Fault(kind, nth=1 + nth // 3, for_s=1.0 + 2 * for_s),
    }
    lasting = (FaultKind.FREEZE, FaultKind.CUT, FaultKind.STORE_DOWN, FaultKind.BINDING_LOST)
    by_kind |= {lasting_kind: Fault(kind, worker, at_s=at_s, for_s=for_s) for lasting_kind in lasting}
    return by_kind.get(kind, Fault(kind, worker, nth))
