"""Every journey in both modes, in memory on virtual time."""

import pytest

from bootstrap.modes import Mode
from lab.journeys.catalogue import JOURNEYS
from tests.support.journey_checks import judge, played
from tests.support.journey_outcomes import EXPECTED
from tests.support.system import MODES, in_memory


def test_every_journey_has_an_expected_outcome() -> None:
    assert set(EXPECTED) == set(JOURNEYS)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", JOURNEYS)
def test_a_journey_ends_as_expected_in_every_database(name: str, mode: Mode) -> None:
    judge(name, mode, in_memory(mode, lambda system: played(JOURNEYS[name], system)))


@pytest.mark.parametrize("name", JOURNEYS)
def test_both_modes_end_a_journey_alike(name: str) -> None:
    """States and reasons are compared with each other, not with the expected outcome."""
    ends = [in_memory(mode, lambda system: played(JOURNEYS[name], system)).result.snapshot.orders for mode in MODES]
    one, other = [sorted((order.state, str(order.reason)) for order in orders.values()) for orders in ends]
    assert one == other
    assert one, "no order was placed"
