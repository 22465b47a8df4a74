"""T4: the checkers are checked. Every row dropped, every short cut and every rule undone must be caught by the random driver.

A bug that is not caught within SEEDS runs fails here: then the driver or the invariants have gone blind.
"""

from random import Random

import pytest

from lab.invariants import InvariantViolated
from tests.support.protocol.bugs import DROPPED, SHORT_CUTS, Bug
from tests.support.protocol.driver import run
from tests.support.protocol.rule_bugs import RULES
from tests.support.protocol.scenario import Scenario

SEEDS = 6_000
#: Runs of a mode that a bug is said not to hurt.
UNHURT_SEEDS = 400

BUGS = [pytest.param(bug, mode, id=f"{bug.name}, {mode}") for bug in (*DROPPED, *SHORT_CUTS, *RULES) for mode in bug.modes]
#: What the page says of C4 and C5: choreography does not mind.
HARMLESS = [pytest.param(bug, id=bug.name) for bug in RULES if "C4" in bug.name or "C5" in bug.name]


def caught(bug: Bug, mode: str, seeds: int) -> InvariantViolated | None:
    """The first guarantee that is seen broken."""
    for seed in range(seeds):
        rng = Random(seed)
        scenario = Scenario.single(rng)
        try:
            run(mode, scenario, rng, roles=bug.roles(mode), model=bug.gateway)
        except InvariantViolated as broken:
            return broken
    return None


@pytest.mark.parametrize(("bug", "mode"), BUGS)
def test_a_planted_bug_is_caught(bug: Bug, mode: str) -> None:
    broken = caught(bug, mode, SEEDS)
    assert broken is not None, f"{SEEDS} random schedules did not notice"
    assert broken.guarantee in bug.breaks


@pytest.mark.parametrize("bug", HARMLESS)
def test_choreography_does_not_mind_what_makes_the_orchestrator_hang(bug: Bug) -> None:
    assert caught(bug, "choreography", UNHURT_SEEDS) is None


def test_every_row_of_the_reactions_and_every_rule_has_its_bug() -> None:
    assert len(DROPPED) == 11
    assert len(SHORT_CUTS) >= 6
    assert {bug.name.split()[0] for bug in RULES} == {"R1", "R2", "R3", "R4", "R5", "R6"}
