"""Journeys in both modes on RabbitMQ, a MongoDB-wire server and a gateway process.

Timeouts are short (tests/support/system.py). Each mode has one set of queues for all of its journeys, emptied after each:
declaring and deleting its quorum queues takes longer than a journey.
"""

import pytest

from bootstrap.modes import Mode
from lab.journeys.catalogue import JOURNEYS, WITHDRAWAL_POINTS
from tests.support.journey_checks import Verdict, judge, played
from tests.support.system import Servers, on_servers

pytestmark = pytest.mark.real

#: Three of the points before the pivot: a queued step, a pending payment, a delayed step.
POINTS_PLAYED = ("inventory-down", "payment-pending", "delivery-late")
LEFT_OUT = {f"withdraw-{point}" for point in WITHDRAWAL_POINTS if point not in POINTS_PLAYED}
PLAYED = tuple(name for name in JOURNEYS if name not in LEFT_OUT)


@pytest.fixture(scope="module")
def verdicts() -> dict[tuple[str, Mode], Verdict]:
    """(journey, mode) -> its verdict, to compare the modes."""
    return {}


@pytest.mark.parametrize("name", PLAYED)
def test_a_journey_ends_as_expected_in_every_database(
    name: str, mode: Mode, real: Servers, prefix: str, verdicts: dict[tuple[str, Mode], Verdict]
) -> None:
    verdict = on_servers(mode, real.backend(prefix), lambda system: played(JOURNEYS[name], system))
    judge(name, mode, verdict)
    verdicts[name, mode] = verdict
    other = verdicts.get((name, Mode.CHOREOGRAPHY if mode is Mode.ORCHESTRATOR else Mode.ORCHESTRATOR))
    if other is not None:
        assert verdict.result.ends == other.result.ends, "the modes end differently"
