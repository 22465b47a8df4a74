"""The crash matrix in simulation: no kill has an effect; without inbox or outbox, orders are lost or effects doubled.

The same points with real processes are in tests/crash_points/.
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


def failed_cells(cells: list[Cell]) -> dict[str, str]:
    return {
        f"{cell.worker} {cell.handler}, {cell.point}": cell.verdict for cell in cells if cell.verdict not in (PASSED, NOT_REACHED)
    }


@pytest.mark.parametrize("mode", MODES)
def test_a_kill_at_any_point_of_any_handler_loses_nothing(mode: Mode) -> None:
    cells = run_matrix(mode)
    assert failed_cells(cells) == {}
    assert len(cells) == len(handlers_of(mode)) * len(CrashPoint)
    assert {cell.point for cell in cells if cell.verdict == NOT_REACHED} == {CrashPoint.BEFORE_REMOVAL}, (
        "only a handler that publishes nothing does not reach this point"
    )


@pytest.mark.parametrize("mode", MODES)
def test_without_the_outbox_a_kill_after_the_commit_loses_the_order(mode: Mode) -> None:
    lost = [
        cell
        for cell in run_matrix(mode, worker=WithoutOutbox)
        if "everything ends" in cell.verdict or DIFFERENT_END in cell.verdict
    ]
    assert {CrashPoint.BEFORE_ACK, CrashPoint.BEFORE_PUBLISH} <= {cell.point for cell in lost}


@pytest.mark.parametrize("mode", MODES)
def test_without_the_inbox_a_kill_before_the_ack_doubles_the_effect(mode: Mode) -> None:
    doubled = [cell for cell in run_matrix(mode, worker=WithoutInbox) if "one effect a message" in cell.verdict]
    assert CrashPoint.BEFORE_ACK in {cell.point for cell in doubled}
