"""Many seeds, on all cores: what was run, what was injected, how orders ended, and every failure.

A campaign that injected nothing, or completed nothing, or undid nothing, proves nothing: that is a failure
too (the vacuity check).
"""

import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import takewhile
from typing import Any

import structlog

from bootstrap.modes import Mode
from lab.simulation.history import Finding
from lab.simulation.plan import Kind, draw, draw_without_races
from lab.simulation.run import Outcome, simulate

#: Seeds that a process runs before it reports: enough to make starting it cheap, few enough for a smooth progress bar.
CHUNK = 20
#: So many seeds must have shown every kind of fault.
SEEDS_FOR_EVERY_KIND = 200


@dataclass(slots=True)
class Summary:
    """What came of a campaign so far. `failures`: (seed, mode, finding)."""

    seeds: int = 0
    runs: int = 0
    orders: int = 0
    seconds: float = 0.0
    faults: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    compensations: int = 0
    attention: int = 0
    duplicates: int = 0
    failures: list[tuple[int, Mode, Finding]] = field(default_factory=list)

    def add(self, outcome: Outcome) -> None:
        self.runs += 1
        self.orders += len(outcome.ends)
        self.faults.update(outcome.faults)
        self.ends.update(outcome.ends.values())
        self.compensations += outcome.compensations
        self.attention += outcome.attention
        self.duplicates += outcome.duplicates
        self.failures += [(outcome.seed, outcome.mode, finding) for finding in outcome.findings]

    @property
    def completed(self) -> int:
        return self.ends["COMPLETED"]

    @property
    def rejected(self) -> dict[str, int]:
        """Reason -> orders."""
        ends = sorted(self.ends.items())
        return {end.removeprefix("REJECTED "): count for end, count in ends if end.startswith("REJECTED")}

    def vacuous(self) -> list[str]:
        """What this campaign did not try, so that it proves nothing about it. Asked of campaigns of some size only."""
        if self.seeds < SEEDS_FOR_EVERY_KIND:
            return []
        missing = [f"no {kind} was injected" for kind in Kind if not self.faults[kind]]
        missing += [] if self.completed else ["no order completed"]
        return missing + ([] if self.compensations else ["nothing was undone"])


def campaign(first: int, seeds: int, modes: Sequence[Mode], on_progress: Callable[[Summary], None]) -> Summary:
    """Run seeds `first` to `first + seeds - 1` in each of `modes`; with both modes, hold their ends against each other too."""
    summary = Summary(seeds=seeds)
    began = time.monotonic()
    chunks = _chunks(first, seeds)
    with ProcessPoolExecutor(max_workers=os.cpu_count()) as pool:
        for outcomes in pool.map(_run_chunk, chunks, [list(modes)] * len(chunks)):
            for outcome in outcomes:
                summary.add(outcome)
            summary.seconds = time.monotonic() - began
            on_progress(summary)
    for what in summary.vacuous():
        summary.failures.append((first, modes[0], Finding("something happened", what)))
    return summary


def _chunks(first: int, seeds: int) -> list[range]:
    return [range(start, min(start + CHUNK, first + seeds)) for start in range(first, first + seeds, CHUNK)]


def _run_chunk(seeds: range, modes: list[Mode]) -> list[Outcome]:
    be_quiet()
    outcomes = []
    for seed in seeds:
        outcomes += [replace(simulate(draw(seed, mode)), trace=()) for mode in modes]
        if len(modes) > 1:
            outcomes.append(replace(differ(seed), trace=()))
    return outcomes


def be_quiet() -> None:
    """Workers in a simulation say nothing: what they would log is in the trace."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50), cache_logger_on_first_use=True)


def differ(seed: int) -> Outcome:
    """Both modes on the same orders and business failures, without races: every order must end alike. Gives the second's outcome,
    with what differs among its findings."""
    first, second = (simulate(draw_without_races(seed, mode)) for mode in Mode)
    parted = [Finding("both modes end alike", _parting(first, second, number)) for number in _divergent(first, second)]
    return replace(second, findings=(*first.findings, *second.findings, *parted))


def _divergent(first: Outcome, second: Outcome) -> list[int]:
    return [number for number, end in first.ends.items() if end != second.ends.get(number)]


def _parting(first: Outcome, second: Outcome, number: int) -> str:
    """Where the two traces of an order part: the states that both went through, and what came next in each."""
    ways = (first.paths.get(number, ()), second.paths.get(number, ()))
    common = len(list(takewhile(lambda pair: pair[0] == pair[1], zip(*ways, strict=False))))
    apart = [", ".join(way[common:]) or "nothing" for way in ways]
    together = ", ".join(ways[0][:common]) or "the beginning"
    return f"order {number}: after {together}, {first.mode} went on with {apart[0]}, {second.mode} with {apart[1]}"


def as_dict(summary: Summary) -> dict[str, Any]:
    """The summary as `saga simulate --json` prints it."""
    return {
        "seeds": summary.seeds,
        "orders": summary.orders,
        "seconds": round(summary.seconds, 3),
        "seeds_per_s": round(summary.seeds / summary.seconds, 1) if summary.seconds else None,
        "faults": dict(sorted(summary.faults.items())),
        "completed": summary.completed,
        "rejected": summary.rejected,
        "needs_attention": summary.attention,
        "duplicates_dropped": summary.duplicates,
        "failures": [
            {"seed": seed, "mode": str(mode), "checker": finding.checker, "finding": finding.what}
            for seed, mode, finding in summary.failures
        ],
    }
