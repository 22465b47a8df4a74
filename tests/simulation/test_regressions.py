"""Regressions: the plans with which the simulator found bugs, reduced to the faults that they need.

They are plans and not seeds, because a seed's meaning changes when draws are added. Each failed before its bug was fixed;
docs/proof.md lists the bugs.
"""

import pytest

from bootstrap.modes import Mode
from lab.simulation.campaign import silence_logs
from lab.simulation.plan import CrashPoint, Fault, FaultKind, PlannedOrder, SimulationPlan
from lab.simulation.run import simulate
from services.vocabulary import Line

STOCK = {"book": 100, "lamp": 100, "pen": 100}


def order(number: int, at_s: float, **wanted: int) -> PlannedOrder:
    return PlannedOrder(number, at_s, tuple(Line(sku=sku, quantity=quantity) for sku, quantity in wanted.items()))


FOUND = {
    # asyncio.wait_for swallows a cancellation that comes in the same turn as its result (Python 3.11): the relay kept running,
    # and the worker that waited for its end never ended.
    "shutdown while a commit is in doubt": SimulationPlan(
        1893,
        Mode.CHOREOGRAPHY,
        (
            order(1, 1.8992910034625348, pen=3),
            order(2, 1.909496041886166, lamp=2, pen=1),
            order(3, 0.3104824518969834, lamp=3),
        ),
        STOCK,
        1,
        (
            Fault(FaultKind.COMMIT_KEPT, "order", 1),
            Fault(FaultKind.STOP, "order", at_s=3.505185844955635),
            Fault(FaultKind.STORE_DOWN, "order", at_s=0.42216823323788244, for_s=3.299692932261061),
        ),
    ),
    # A message that the worker had requeued, because its copy for the delay queue was not confirmed, counted as redelivered: with
    # one real kill and another such requeue it was taken for a poison message.
    "unconfirmed retries and a kill": SimulationPlan(
        6141,
        Mode.CHOREOGRAPHY,
        (
            order(1, 1.7737533281264592, lamp=2, pen=2),
            order(2, 1.0732786911424026, pen=1),
            order(3, 1.4521579839991543, lamp=1),
            order(4, 1.3158333593151073, book=2),
            order(5, 1.9946595294567935, lamp=1, pen=2),
        ),
        STOCK,
        2,
        (
            Fault(FaultKind.BUSINESS, "inventory:late", 2),
            Fault(FaultKind.WITHDRAWAL, "", 3, 2.0306509182819),
            Fault(FaultKind.WITHDRAWAL, "", 4, 1.6718068518904352),
            Fault(FaultKind.WITHDRAWAL, "", 5, 2.1633232918602756),
            Fault(FaultKind.PUBLISH_LOST, "inventory", 3),
            Fault(FaultKind.COMMIT_KEPT, "order", 8),
            Fault(FaultKind.BROKER_DOWN, at_s=3.168951881940975, for_s=1.3101033677870402),
            Fault(FaultKind.BROKER_DOWN, at_s=0.17686349538680973, for_s=2.5019030787256877),
            Fault(FaultKind.KILL_AT, "inventory", 7, point=CrashPoint.BEFORE_COMMIT),
        ),
    ),
    # Two deliveries of one message in one batch, the first of a lost connection. Its handler raised and its copy for the delay
    # queue was not confirmed, so it was requeued, without effect; the second was acknowledged as a duplicate: the message was
    # lost.
    "two deliveries of a message whose retry is not confirmed": SimulationPlan(
        11598,
        Mode.CHOREOGRAPHY,
        (
            order(1, 0.7916870710414613, lamp=1),
            order(2, 1.3587288063926077, book=3, lamp=2, pen=2),
            order(3, 1.9698887900982525, lamp=2, pen=2),
            order(4, 0.7238388873499461, lamp=2, pen=2),
            order(5, 0.24428213680205266, book=3),
        ),
        STOCK,
        1,
        (
            Fault(FaultKind.BUSINESS, "delivery:error", 2),
            Fault(FaultKind.BUSINESS, "delivery:late", 5),
            Fault(FaultKind.BINDING_LOST, "payment", at_s=1.4511252389954867, for_s=0.1797807581746232),
            Fault(FaultKind.BROKER_DOWN, at_s=1.7061566234669006, for_s=2.5727000043814963),
            Fault(FaultKind.PUBLISH_LOST, "delivery", 3),
            Fault(FaultKind.PUBLISH_LOST, "order", 3),
            Fault(FaultKind.ANSWER_LOST, nth=2),
            Fault(FaultKind.FREEZE, "delivery", at_s=3.2852168790772596, for_s=2.0924083120263397),
        ),
    ),
    # The in-memory broker lost a message whose delay ended while its queue was not bound; RabbitMQ keeps it (dead-lettering at
    # least once).
    "a queue that is not bound when a delay ends": SimulationPlan(
        1067,
        Mode.ORCHESTRATOR,
        (order(1, 1.4630522987861319, book=3), order(2, 0.8189063274842111, book=3)),
        STOCK,
        2,
        (
            Fault(FaultKind.BUSINESS, "delivery:undeliverable,inventory:undo_error", 1),
            Fault(FaultKind.BINDING_LOST, "inventory", at_s=3.360073081733316, for_s=3.436450442495516),
        ),
    ),
}


@pytest.mark.parametrize("name", FOUND)
def test_a_fixed_bug_is_not_found_again(name: str) -> None:
    silence_logs()
    outcome = simulate(FOUND[name])
    assert outcome.violations == ()
    assert len(outcome.triggered_faults) >= len(FOUND[name].faults), "every fault must take effect"
