"""The crash matrix in simulation: every kill is survived, and without inbox or outbox it shows what is lost and doubled.

The named points with real processes are in tests/killed/.
"""

import pytest

from bootstrap.modes import Mode
from lab.simulation.campaign import be_quiet
from lab.simulation.crash_matrix import ABSENT, HOLDS, OTHERWISE, Cell, TellingWorker, handlers_of, matrix
from lab.simulation.plan import Point
from tests.support.simulation.worker_bugs import InboxOff, OutboxOff

MODES = tuple(Mode)


class WithoutOutbox(OutboxOff, TellingWorker):
    pass


class WithoutInbox(InboxOff, TellingWorker):
    pass


@pytest.fixture(autouse=True)
def quiet() -> None:
    be_quiet()


def bad(cells: list[Cell]) -> dict[str, str]:
    return {f"{cell.worker} {cell.handler}, {cell.point}": cell.verdict for cell in cells if cell.verdict not in (HOLDS, ABSENT)}


@pytest.mark.parametrize("mode", MODES)
def test_a_worker_may_be_killed_at_every_point_with_every_handler_in_hand(mode: Mode) -> None:
    cells = matrix(mode)
    assert bad(cells) == {}
    assert len(cells) == len(handlers_of(mode)) * len(Point)
    assert {cell.point for cell in cells if cell.verdict == ABSENT} == {Point.BEFORE_REMOVAL}, (
        "who publishes nothing has no such point"
    )


@pytest.mark.parametrize("mode", MODES)
def test_without_the_outbox_a_kill_between_commit_and_publish_loses_the_order(mode: Mode) -> None:
    lost = [cell for cell in matrix(mode, worker=WithoutOutbox) if "everything ends" in cell.verdict or OTHERWISE in cell.verdict]
    assert {Point.BEFORE_ACK, Point.BEFORE_PUBLISH} <= {cell.point for cell in lost}


@pytest.mark.parametrize("mode", MODES)
def test_without_the_inbox_a_kill_before_the_acknowledgement_doubles_the_effect(mode: Mode) -> None:
    doubled = [cell for cell in matrix(mode, worker=WithoutInbox) if "one effect a message" in cell.verdict]
    assert Point.BEFORE_ACK in {cell.point for cell in doubled}
