"""What the simulator has found: the plan that showed it, reduced to the faults that it takes, for good.

Room: tests/simulation/. Whole plans and not seeds, because what a seed means changes with the drawing. Each failed before its bug
was mended; docs/proof.md lists them.
"""

import pytest

from lab.modes import Mode
from lab.simulation.campaign import be_quiet
from lab.simulation.plan import Fault, Kind, Order, Plan
from lab.simulation.run import simulate
from services.vocabulary import Line

SHELF = {"book": 100, "lamp": 100, "pen": 100}


def an_order(number: int, at_s: float, **wanted: int) -> Order:
    return Order(number, at_s, tuple(Line(sku=sku, quantity=quantity) for sku, quantity in wanted.items()))


FOUND = {
    # asyncio.wait_for swallows a cancellation that comes in the same turn as its result (Python 3.11): the relay lived on, and
    # the worker that waited for its end never ended.
    "a worker that is told to stop while a commit is in doubt": Plan(
        1893,
        Mode.CHOREOGRAPHY,
        (
            an_order(1, 1.8992910034625348, pen=3),
            an_order(2, 1.909496041886166, lamp=2, pen=1),
            an_order(3, 0.3104824518969834, lamp=3),
        ),
        SHELF,
        1,
        (
            Fault(Kind.COMMIT_KEPT, "order", 1),
            Fault(Kind.STOP, "order", at_s=3.505185844955635),
            Fault(Kind.STORE_DOWN, "order", at_s=0.42216823323788244, for_s=3.299692932261061),
        ),
    ),
    # The broker in memory lost a message whose time in the delay queue was over while its queue was not bound; RabbitMQ keeps it
    # (dead-lettering at least once).
    "a queue that is not bound when a delay ends": Plan(
        1067,
        Mode.ORCHESTRATOR,
        (an_order(1, 1.4630522987861319, book=3), an_order(2, 0.8189063274842111, book=3)),
        SHELF,
        2,
        (
            Fault(Kind.BUSINESS, "delivery:undeliverable,inventory:undo_error", 1),
            Fault(Kind.UNBOUND, "inventory", at_s=3.360073081733316, for_s=3.436450442495516),
        ),
    ),
}


@pytest.mark.parametrize("name", FOUND)
def test_what_was_found_once_is_not_found_again(name: str) -> None:
    be_quiet()
    outcome = simulate(FOUND[name])
    assert outcome.findings == ()
    assert len(outcome.struck) >= len(FOUND[name].faults), "every fault has struck"
