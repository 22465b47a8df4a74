"""A campaign: many seeds on all cores, and a summary of faults, ends and failures.

A campaign of some size in which a kind of fault, a completed order or a compensation is missing proves nothing about it, so that
is a failure too (the vacuity check).
"""

import multiprocessing
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import takewhile
from typing import Any

import structlog

from bootstrap.modes import Mode
from lab.simulation.history import Violation
from lab.simulation.plan import FaultKind, draw_plan, draw_plan_without_races
from lab.simulation.run import RunOutcome, simulate

#: Seeds that a process runs before it reports: enough to keep the overhead small, few enough for a smooth progress bar.
CHUNK = 20
#: The number of seeds from which on every kind of fault must have occurred.
SEEDS_FOR_EVERY_KIND = 200


@dataclass(slots=True)
class CampaignSummary:
    """The totals of a campaign so far. `failures`: (seed, mode, violation)."""

    seeds: int = 0
    runs: int = 0
    orders: int = 0
    seconds: float = 0.0
    faults: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    compensations: int = 0
    attention: int = 0
    duplicates: int = 0
    failures: list[tuple[int, Mode, Violation]] = field(default_factory=list)

    def add(self, outcome: RunOutcome) -> None:
        self.runs += 1
        self.orders += len(outcome.ends)
        self.faults.update(outcome.faults)
        self.ends.update(outcome.ends.values())
        self.compensations += outcome.compensations
        self.attention += outcome.attention
        self.duplicates += outcome.duplicates
        self.failures += [(outcome.seed, outcome.mode, finding) for finding in outcome.violations]

    @property
    def completed(self) -> int:
        return self.ends["COMPLETED"]

    @property
    def rejected(self) -> dict[str, int]:
        """Reason -> number of rejected orders."""
        ends = sorted(self.ends.items())
        return {end.removeprefix("REJECTED "): count for end, count in ends if end.startswith("REJECTED")}

    def missing_coverage(self) -> list[str]:
        """What this campaign did not cover; empty if it has fewer than SEEDS_FOR_EVERY_KIND seeds."""
        if self.seeds < SEEDS_FOR_EVERY_KIND:
            return []
        missing = [f"no {kind} was injected" for kind in FaultKind if not self.faults[kind]]
        missing += [] if self.completed else ["no order completed"]
        return missing + ([] if self.compensations else ["no compensation took effect"])


def run_campaign(
    first: int, seeds: int, modes: Sequence[Mode], on_progress: Callable[[CampaignSummary], None]
) -> CampaignSummary:
    """Run seeds `first` to `first + seeds - 1` in each of `modes`; with both modes, compare their ends without races as well."""
    summary = CampaignSummary(seeds=seeds)
    started_at = time.monotonic()
    chunks = _chunks(first, seeds)
    with ProcessPoolExecutor(os.cpu_count(), initializer=_end_with_parent) as pool:
        for outcomes in pool.map(_run_chunk, chunks, [list(modes)] * len(chunks)):
            for outcome in outcomes:
                summary.add(outcome)
            summary.seconds = time.monotonic() - started_at
            on_progress(summary)
    for what in summary.missing_coverage():
        summary.failures.append((first, modes[0], Violation("something happened", what)))
    return summary


def _chunks(first: int, seeds: int) -> list[range]:
    return [range(start, min(start + CHUNK, first + seeds)) for start in range(first, first + seeds, CHUNK)]


def _run_chunk(seeds: range, modes: list[Mode]) -> list[RunOutcome]:
    silence_logs(permanent=True)
    outcomes = []
    for seed in seeds:
        outcomes += [replace(simulate(draw_plan(seed, mode)), trace=()) for mode in modes]
        if len(modes) > 1:
            outcomes.append(replace(compare_modes(seed), trace=()))
    return outcomes


def silence_logs(*, permanent: bool = False) -> None:
    """Turn off the logs of this process: the trace takes their place. `permanent`: faster, and cannot be undone."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50), cache_logger_on_first_use=permanent)


def _end_with_parent() -> None:
    """Ends this process of the pool once its parent is gone: a pool whose parent was killed waits for work indefinitely."""
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, name="parent watch", daemon=True).start()


def compare_modes(seed: int) -> RunOutcome:
    """Run both modes on the same orders and business failures, without races: every order must end alike. Returns the outcome of
    the second mode with the violations of both and those of the comparison."""
    first, second = (simulate(draw_plan_without_races(seed, mode)) for mode in Mode)
    differences = [
        Violation("both modes end alike", _first_difference(first, second, number)) for number in _diverging_orders(first, second)
    ]
    return replace(second, violations=(*first.violations, *second.violations, *differences))


def _diverging_orders(first: RunOutcome, second: RunOutcome) -> list[int]:
    return [number for number, end in first.ends.items() if end != second.ends.get(number)]


def _first_difference(first: RunOutcome, second: RunOutcome, number: int) -> str:
    """Where the two modes diverge on an order: the last states that they have in common, and the states that follow in each."""
    paths = (first.paths.get(number, ()), second.paths.get(number, ()))
    common = len(list(takewhile(lambda pair: pair[0] == pair[1], zip(*paths, strict=False))))
    rest = [", ".join(path[common:]) or "nothing" for path in paths]
    shared = ", ".join(paths[0][:common]) or "the beginning"
    return f"order {number}: after {shared}, {first.mode} continued with {rest[0]}, {second.mode} with {rest[1]}"


def as_dict(summary: CampaignSummary) -> dict[str, Any]:
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
            {"seed": seed, "mode": str(mode), "checker": finding.checker, "finding": finding.detail}
            for seed, mode, finding in summary.failures
        ],
    }
