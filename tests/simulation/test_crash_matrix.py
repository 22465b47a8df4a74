"""The crash matrix in simulation: every kill is survived, and without inbox or outbox it shows what is lost and doubled.

The named points with real processes are in tests/killed/.
"""

import pytest

from bootstrap.modes import Mode
from lab.simulation.campaign import silence_logs
from lab.simulation.crash_matrix import DIFFERENT_END, NOT_REACHED, PASSED, Cell, InstrumentedWorker, handlers_of, run_matrix
from lab.simulation.plan import CrashPoint
from tests.support.simulation.worker_bugs import InboxOff, OutboxOff

MODES = tuple(Mode)


class WithoutOutbox(OutboxOff, InstrumentedWorker):
    pass


class WithoutInbox(InboxOff, InstrumentedWorker):
    pass


@pytest.fixture(autouse=True)
def quiet() -> None:
    silence_logs()


def bad(cells: list[Cell]) -> dict[str, str]:
    return {
        f"{cell.worker} {cell.handler}, {cell.point}": cell.verdict for cell in cells if cell.verdict not in (PASSED, NOT_REACHED)
    }


@pytest.mark.parametrize("mode", MODES)
def test_a_worker_may_be_killed_at_every_point_with_every_handler_in_hand(mode: Mode) -> None:
    cells = run_matrix(mode)
    assert bad(cells) == {}
    assert len(cells) == len(handlers_of(mode)) * len(CrashPoint)
    assert {cell.point for cell in cells if cell.verdict == NOT_REACHED} == {CrashPoint.BEFORE_REMOVAL}, (
        "who publishes nothing has no such point"
    )


@pytest.mark.parametrize("mode", MODES)
def test_without_the_outbox_a_kill_between_commit_and_publish_loses_the_order(mode: Mode) -> None:
    lost = [
        cell
        for cell in run_matrix(mode, worker=WithoutOutbox)
        if "everything ends" in cell.verdict or DIFFERENT_END in cell.verdict
    ]
    assert {CrashPoint.BEFORE_ACK, CrashPoint.BEFORE_PUBLISH} <= {cell.point for cell in lost}


@pytest.mark.parametrize("mode", MODES)
def test_without_the_inbox_a_kill_before_the_acknowledgement_doubles_the_effect(mode: Mode) -> None:
    doubled = [cell for cell in run_matrix(mode, worker=WithoutInbox) if "one effect a message" in cell.verdict]
    assert CrashPoint.BEFORE_ACK in {cell.point for cell in doubled}
