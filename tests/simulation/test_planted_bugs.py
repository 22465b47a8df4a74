"""The checkers are tested: each planted bug is found by one of the checkers named for it within SEEDS seeds."""

import pytest

from bootstrap.modes import Mode
from lab.simulation.campaign import silence_logs
from tests.support.simulation.bugs import PLANTED, Planted
from tests.support.simulation.proof import first_catch

SEEDS = 500

BUGS = [pytest.param(bug, mode, id=f"{bug.name}, {mode}") for bug in PLANTED for mode in bug.modes]


@pytest.mark.parametrize(("bug", "mode"), BUGS)
def test_a_planted_bug_is_caught_by_its_checker(bug: Planted, mode: Mode) -> None:
    silence_logs()
    assert first_catch(bug, mode, SEEDS) is not None, f"none of {SEEDS} seeds found it"


def test_at_least_fifteen_bugs_are_planted() -> None:
    assert len({bug.name for bug in PLANTED}) >= 15
