"""Tests of the checkers: the random driver must catch every dropped reaction, every short cut and every removed rule.

A bug that is not caught within SEEDS runs is a failure: the driver or the invariants no longer find it.
"""

from random import Random

import pytest

from lab.invariants import InvariantViolated
from tests.support.protocol.bugs import DROPPED, SHORT_CUTS, Bug
from tests.support.protocol.driver import run
from tests.support.protocol.rule_bugs import RULES
from tests.support.protocol.scenario import Scenario

SEEDS = 6_000
#: Runs of a mode that a bug does not affect.
UNAFFECTED_SEEDS = 400

BUGS = [pytest.param(bug, mode, id=f"{bug.name}, {mode}") for bug in (*DROPPED, *SHORT_CUTS, *RULES) for mode in bug.modes]
#: C4 and C5: choreography is unaffected.
HARMLESS = [pytest.param(bug, id=bug.name) for bug in RULES if "C4" in bug.name or "C5" in bug.name]


def caught(bug: Bug, mode: str, seeds: int) -> InvariantViolated | None:
    """The first violation that is found, None if none is."""
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
    assert broken is not None, f"not caught in {SEEDS} random schedules"
    assert broken.guarantee in bug.breaks


@pytest.mark.parametrize("bug", HARMLESS)
def test_choreography_is_unaffected_by_c4_and_c5(bug: Bug) -> None:
    assert caught(bug, "choreography", UNAFFECTED_SEEDS) is None


def test_every_reaction_and_every_rule_has_a_planted_bug() -> None:
    assert len(DROPPED) == 11
    assert len(SHORT_CUTS) >= 6
    assert {bug.name.split()[0] for bug in RULES} == {"R1", "R2", "R3", "R4", "R5", "R6"}
