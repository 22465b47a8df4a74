"""What docs/proof.md shows of tests: which checker caught which planted bug.

Room: tests/simulation/.
"""

from contextlib import nullcontext
from dataclasses import dataclass

from lab.modes import Mode
from lab.simulation.plan import draw
from lab.simulation.run import simulate
from tests.simulation.planted import PLANTED, Planted


@dataclass(frozen=True, slots=True)
class Catch:
    """The first seed in which a checker that was named for a bug found something."""

    seed: int
    checker: str


def first_catch(bug: Planted, mode: Mode, seeds: int) -> Catch | None:
    """Run seeds from 1 until the bug is noticed."""
    with bug.rules() if bug.rules else nullcontext():
        for seed in range(1, seeds + 1):
            outcome = simulate(draw(seed, mode), make_world=bug.world)
            for finding in outcome.findings:
                if finding.checker in bug.caught_by:
                    return Catch(seed, finding.checker)
    return None


def table(seeds: int = 500) -> str:
    """The table of planted bugs, as Markdown."""
    lines = ["| planted bug | mode | caught by | at seed |", "| --- | --- | --- | --- |"]
    for bug in PLANTED:
        for mode in bug.modes:
            catch = first_catch(bug, mode, seeds)
            told = f"{catch.checker} | {catch.seed}" if catch else "**nobody** | -"
            lines.append(f"| {bug.name} | {mode} | {told} |")
    return "\n".join(lines)
