"""Writes the tables of docs/proof.md: planted bugs, crash matrix, and the figures of the last release run (`make proof`).

The release run's figures are what `saga simulate` and `saga chaos` printed as JSON into docs/proof/.
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
    """The first seed in which a checker that was named for a bug found something."""

    seed: int
    checker: str


def first_catch(bug: Planted, mode: Mode, seeds: int) -> Catch | None:
    """Run seeds from 1 until the bug is noticed."""
    with bug.rules() if bug.rules else nullcontext():
        for seed in range(1, seeds + 1):
            outcome = simulate(draw_plan(seed, mode), make_cluster=bug.world)
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
            told = f"{catch.checker} | {catch.seed}" if catch else "**nobody** | -"
            lines.append(f"| {bug.name} | {mode} | {told} |")
    return "\n".join(lines)


def crash_matrix() -> str:
    """The crash matrix of both modes, as Markdown."""
    lines = [f"| mode | in hand | {' | '.join(CrashPoint)} |", "| --- | --- |" + " --- |" * len(CrashPoint)]
    for mode in Mode:
        rows: dict[str, list[str]] = {}
        for cell in run_matrix(mode):
            rows.setdefault(f"{cell.worker} {cell.handler}", []).append(cell.verdict)
        lines += [f"| {mode} | {handler} | {' | '.join(verdicts)} |" for handler, verdicts in rows.items()]
    return "\n".join(lines)


def run_campaign() -> str:
    """The release runs of the simulator, as Markdown: one of each mode, and one of both against each other."""
    pages = sorted((DOCS / "proof").glob("simulate-*.json"))
    told = {page.stem.partition("-")[2]: json.loads(page.read_text()) for page in pages}
    names = ["seeds", "orders", "seconds", "seeds_per_s", "completed", "rejected"]
    names += ["needs_attention", "duplicates_dropped", "faults"]
    lines = [f"| | {' | '.join(told)} |", "| --- |" + " --- |" * len(told)]
    lines += [f"| {name.replace('_', ' ')} | {' | '.join(_cell(run[name]) for run in told.values())} |" for name in names]
    return "\n".join([*lines, f"| findings | {' | '.join(str(len(run['failures'])) for run in told.values())} |"])


def chaos() -> str:
    """The release run of chaos in each mode, as Markdown."""
    told = [json.loads(path.read_text()) for path in sorted((DOCS / "proof").glob("chaos-*.json"))]
    if not told:
        return "Not run in full yet."
    names = ("seconds", "orders", "completed", "rejected", "injected", "observed", "lost", "doubled", "stuck")
    lines = [f"| | {' | '.join(run['mode'] for run in told)} |", "| --- |" + " --- |" * len(told)]
    lines += [f"| {name} | {' | '.join(_cell(run[name]) for run in told)} |" for name in names]
    return "\n".join([*lines, f"| audit | {' | '.join('ok' if run['audit']['ok'] else 'NOT ok' for run in told)} |"])


def _cell(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {count:,}" for name, count in value.items()) or "none"
    return f"{value:,}" if isinstance(value, int | float) else str(value)


PARTS = {"planted": planted, "matrix": crash_matrix, "campaign": run_campaign, "chaos": chaos}


def write(names: list[str]) -> None:
    """Bring the named parts of the page up to date."""
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
