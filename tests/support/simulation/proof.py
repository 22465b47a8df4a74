"""Generates the tables of docs/proof.md: planted bugs, crash matrix, and the figures of the last release run (`make proof`).

The figures of the release run are the JSON files that `saga simulate` and `saga chaos` wrote into docs/proof/.
"""

import json
import re
import sys
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bootstrap.modes import Mode
from lab.simulation.campaign import silence_logs
from lab.simulation.crash_matrix import run_matrix
from lab.simulation.plan import CrashPoint, draw_plan
from lab.simulation.run import simulate
from tests.support.simulation.bugs import PLANTED, Planted

DOCS = Path(__file__).parents[3] / "docs"
PAGE = DOCS / "proof.md"


@dataclass(frozen=True, slots=True)
class Catch:
    """The first seed in which a bug was found by one of its checkers."""

    seed: int
    checker: str


def first_catch(bug: Planted, mode: Mode, seeds: int) -> Catch | None:
    """Run seeds from 1 until one of the bug's checkers finds it; None if none of `seeds` does."""
    with bug.rules() if bug.rules else nullcontext():
        for seed in range(1, seeds + 1):
            outcome = simulate(draw_plan(seed, mode), make_cluster=bug.make_cluster)
            for finding in outcome.violations:
                if finding.checker in bug.caught_by:
                    return Catch(seed, finding.checker)
    return None


def planted(seeds: int = 500) -> str:
    """The table of planted bugs, as Markdown."""
    lines = ["| planted bug | mode | caught by | at seed |", "| --- | --- | --- | --- |"]
    for bug in PLANTED:
        for mode in bug.modes:
            catch = first_catch(bug, mode, seeds)
            caught_by = f"{catch.checker} | {catch.seed}" if catch else "**not caught** | -"
            lines.append(f"| {bug.name} | {mode} | {caught_by} |")
    return "\n".join(lines)


def crash_matrix() -> str:
    """The crash matrix of both modes, as Markdown."""
    lines = [f"| mode | in progress | {' | '.join(CrashPoint)} |", "| --- | --- |" + " --- |" * len(CrashPoint)]
    for mode in Mode:
        rows: dict[str, list[str]] = {}
        for cell in run_matrix(mode):
            rows.setdefault(f"{cell.worker} {cell.handler}", []).append(cell.verdict)
        lines += [f"| {mode} | {handler} | {' | '.join(verdicts)} |" for handler, verdicts in rows.items()]
    return "\n".join(lines)


def run_campaign() -> str:
    """The table of the simulator's release runs, as Markdown: one of each mode, and one of both against each other."""
    files = sorted((DOCS / "proof").glob("simulate-*.json"))
    runs = {path.stem.partition("-")[2]: json.loads(path.read_text()) for path in files}
    names = ["seeds", "orders", "seconds", "seeds_per_s", "completed", "rejected"]
    names += ["needs_attention", "duplicates_dropped", "faults"]
    lines = [f"| | {' | '.join(runs)} |", "| --- |" + " --- |" * len(runs)]
    lines += [f"| {name.replace('_', ' ')} | {' | '.join(_cell(run[name]) for run in runs.values())} |" for name in names]
    return "\n".join([*lines, f"| findings | {' | '.join(str(len(run['failures'])) for run in runs.values())} |"])


def chaos() -> str:
    """The table of the chaos release run of each mode, as Markdown."""
    runs = [json.loads(path.read_text()) for path in sorted((DOCS / "proof").glob("chaos-*.json"))]
    if not runs:
        return "Not run in full yet."
    names = ("seconds", "orders", "completed", "rejected", "injected", "observed", "lost", "doubled", "stuck")
    lines = [f"| | {' | '.join(run['mode'] for run in runs)} |", "| --- |" + " --- |" * len(runs)]
    lines += [f"| {name} | {' | '.join(_cell(run[name]) for run in runs)} |" for name in names]
    return "\n".join([*lines, f"| audit | {' | '.join('ok' if run['audit']['ok'] else 'NOT ok' for run in runs)} |"])


def _cell(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {count:,}" for name, count in value.items()) or "none"
    return f"{value:,}" if isinstance(value, int | float) else str(value)


PARTS = {"planted": planted, "matrix": crash_matrix, "campaign": run_campaign, "chaos": chaos}


def write(names: list[str]) -> None:
    """Regenerate the named parts of the page."""
    text = PAGE.read_text()
    for name in names:
        part = PARTS[name]()
        text = re.sub(
            rf"(<!-- generated: {name} -->\n).*?(<!-- end -->)",
            lambda found, part=part: f"{found[1]}{part}\n{found[2]}",
            text,
            flags=re.DOTALL,
        )
    PAGE.write_text(text)


if __name__ == "__main__":
    silence_logs()
    write(sys.argv[1:] or list(PARTS))
