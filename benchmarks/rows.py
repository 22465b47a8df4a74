"""The rows of the speed table: the two sides of each, their loads, and the floor.

A row is measured in pairs, one side right after the other, so that other load on the machine affects both. The result is the
median of the pairs' ratios with their spread.
"""

import statistics
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

from benchmarks.cpu import wait_until_quiet
from benchmarks.servers import Servers
from benchmarks.sides import Load, Run, RunningSide, Side, up
from bootstrap.modes import Mode

#: Percent of all cores that other processes may use during a pair; a pair with more is measured again.
FOREIGN_MAX_PERCENT = 10.0
#: The most pairs that are measured for a row, as a multiple of the requested number.
ATTEMPTS_FACTOR = 3
#: Seconds that a pair waits for a quiet machine before it starts in any case.
QUIET_TIMEOUT_S = 120.0
WARM_UP_ORDERS = 300

CHOREOGRAPHY, ORCHESTRATOR = Mode.CHOREOGRAPHY, Mode.ORCHESTRATOR


def ours(mode: Mode) -> Side:
    return Side("ours", mode)


def bare(mode: Mode) -> Side:
    return Side("bare chain", mode, bare=True)


def observed(mode: Mode) -> Side:
    return Side("ours, observed", mode, observed=True)


def one_by_one(mode: Mode) -> Side:
    return Side("ours, batch_max = 1", mode, batch_max=1)


@dataclass(frozen=True, slots=True)
class Row:
    """A row: ratio = figure of `our_side` under load `ours` / figure of `other_side` under load `other`.

    `figure` is a path in a storm's JSON, such as `clean.p99_ms`. `half_rate`: orders come at a fixed rate, half of what the
    warm-up reached, instead of as fast as others end."""

    name: str
    title: str
    figure: str
    at_least: bool
    floors: Mapping[Mode, float]
    ours: Load
    other: Load
    other_side: Callable[[Mode], Side]
    half_rate: bool = False
    our_side: Callable[[Mode], Side] = ours

    def is_met(self, mode: Mode, ratio: float) -> bool:
        return ratio >= self.floors[mode] if self.at_least else ratio <= self.floors[mode]

    def floor_text(self, mode: Mode) -> str:
        return f"{'≥' if self.at_least else '≤'} {self.floors[mode]:g}"


ROWS = (
    Row(
        name="bare-100",
        title="orders/s against the bare chain, 100 in flight",
        figure="rate_per_s",
        at_least=True,
        floors={CHOREOGRAPHY: 1.0, ORCHESTRATOR: 0.85},
        ours=Load(2000, 100),
        other=Load(2000, 100),
        other_side=bare,
    ),
    Row(
        name="bare-400",
        title="orders/s against the bare chain, 400 in flight",
        figure="rate_per_s",
        at_least=True,
        floors={CHOREOGRAPHY: 1.6, ORCHESTRATOR: 1.3},
        ours=Load(4000, 400),
        other=Load(4000, 400),
        other_side=bare,
    ),
    Row(
        name="one-by-one",
        title="orders/s against one transaction a message, 100 in flight (the slow side gets 400 orders)",
        figure="rate_per_s",
        at_least=True,
        floors={CHOREOGRAPHY: 6.0, ORCHESTRATOR: 6.0},
        ours=Load(2000, 100),
        other=Load(400, 100),
        other_side=one_by_one,
    ),
    Row(
        name="alone",
        title="one order alone, p50, against the bare chain alone",
        figure="p50_ms",
        at_least=False,
        floors={CHOREOGRAPHY: 4.0, ORCHESTRATOR: 5.0},
        ours=Load(200, 1),
        other=Load(200, 1),
        other_side=bare,
    ),
    Row(
        name="hanging",
        title="p99 of clean orders while 5 % of gateway calls hang, against none (both at half the rate that is possible)",
        figure="clean.p99_ms",
        at_least=False,
        floors={CHOREOGRAPHY: 1.3, ORCHESTRATOR: 1.3},
        # A fixed rate: in a closed loop, hanging orders fill the places in flight and leave the machine to the few others.
        ours=Load(2000, 100_000, failures=("payment:hang=5%",)),
        other=Load(2000, 100_000),
        other_side=ours,
        half_rate=True,
    ),
    Row(
        name="observed",
        title="orders/s with the observer against without, 100 in flight",
        figure="rate_per_s",
        at_least=True,
        floors={CHOREOGRAPHY: 0.75, ORCHESTRATOR: 0.8},
        ours=Load(2000, 100),
        other=Load(2000, 100),
        our_side=observed,
        other_side=ours,
    ),
)


@dataclass(frozen=True, slots=True)
class Pair:
    """Two runs, one right after the other."""

    ours: Run
    other: Run
    ratio: float

    @property
    def foreign_percent(self) -> float:
        return max(self.ours.foreign_percent, self.other.foreign_percent)


@dataclass(slots=True)
class Result:
    """The measured pairs of a row in one mode. `repeated`: pairs discarded because other processes used too much CPU."""

    row: Row
    mode: Mode
    pairs: list[Pair] = field(default_factory=list)
    repeated: int = 0

    @property
    def ratio(self) -> float:
        return statistics.median(pair.ratio for pair in self.pairs)

    @property
    def is_met(self) -> bool:
        return self.row.is_met(self.mode, self.ratio)

    def median_of(self, side: str) -> float:
        return statistics.median(figure_of(getattr(pair, side), self.row.figure) for pair in self.pairs)


def figure_of(run: Run, path: str) -> float:
    """A figure of a storm's JSON by its dotted path."""
    value: Any = run.figures
    for name in path.split("."):
        value = value[name]
    return float(value)


@dataclass(frozen=True, slots=True)
class Scale:
    """The extent of a benchmark. `quick`: a smoke test whose figures mean nothing. `strict`: pairs that were measured on a busy
    machine are repeated."""

    pairs: int = 5
    quick: bool = False
    strict: bool = True

    def of(self, load: Load) -> Load:
        if not self.quick:
            return load
        return replace(load, orders=min(load.orders, 40), in_flight=min(load.in_flight, 20))

    @property
    def warm_up_orders(self) -> int:
        return 40 if self.quick else WARM_UP_ORDERS


def measure(row: Row, mode: Mode, servers: Servers, scale: Scale, report_progress: Callable[[str], None]) -> Result:
    """Measure pairs until enough of them were measured on a quiet machine, or the attempts are used up."""
    result = Result(row, mode)
    attempts = scale.pairs * (ATTEMPTS_FACTOR if scale.strict else 1)
    with ExitStack() as stack:
        one_pair = _pairing(row, mode, servers, scale, stack)
        for left in reversed(range(attempts)):
            if scale.strict:
                wait_until_quiet(lambda: servers.processes, FOREIGN_MAX_PERCENT, QUIET_TIMEOUT_S)
            pair = one_pair()
            report_progress(
                f"{mode}, {row.name}: ratio {pair.ratio:.2f}, other processes used {pair.foreign_percent:.0f} % of the machine"
            )
            noisy = pair.foreign_percent > FOREIGN_MAX_PERCENT
            if noisy and scale.strict and left >= scale.pairs - len(result.pairs):
                result.repeated += 1
                continue
            result.pairs.append(pair)
            if len(result.pairs) == scale.pairs:
                break
    return result


def _pairing(row: Row, mode: Mode, servers: Servers, scale: Scale, stack: ExitStack) -> Callable[[], Pair]:
    """Return a function that measures one pair. Sides with the same workers share them; others run one after the other."""
    first, second = row.our_side(mode), row.other_side(mode)
    load, other_load = scale.of(row.ours), scale.of(row.other)
    if first != second:
        return lambda: _pair(row, _run(first, load, servers, scale), _run(second, other_load, servers, scale))
    live = stack.enter_context(up(first, servers, Load(scale.warm_up_orders, 100)))
    rate = _half_rate(live, scale) if row.half_rate else None
    load, other_load = replace(load, rate=rate), replace(other_load, rate=rate)
    return lambda: _pair(row, live.storm(load), live.storm(other_load))


def _pair(row: Row, mine: Run, theirs: Run) -> Pair:
    return Pair(mine, theirs, figure_of(mine, row.figure) / figure_of(theirs, row.figure))


def _run(side: Side, load: Load, servers: Servers, scale: Scale) -> Run:
    """Start a side, warm it up with fewer orders of the same kind, measure, and stop it."""
    warm_up = Load(max(1, min(scale.warm_up_orders, load.orders // 2)), load.in_flight)
    with up(side, servers, warm_up) as live:
        return live.storm(load)


def _half_rate(live: RunningSide, scale: Scale) -> float:
    """Half of the rate, in orders per second, that these workers reach when orders come as fast as others end."""
    run = live.storm(Load(4 * scale.warm_up_orders, 100))
    return round(float(run.figures["rate_per_s"]) / 2, 1)
