"""The checkers are checked: every planted bug is noticed by a checker that was named for it.

A bug that goes unnoticed within SEEDS seeds means that the simulator or its checkers have gone blind.
"""

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
    assert first_catch(bug, mode, SEEDS) is not None, f"{SEEDS} seeds did not notice"


def test_there_are_at_least_fifteen_of_them() -> None:
    assert len({bug.name for bug in PLANTED}) >= 15
