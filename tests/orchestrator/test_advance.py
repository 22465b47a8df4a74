"""`advance` against docs/protocol.md#advance, for every state and every event, and the sagas that cannot be built.

The table is that of the page, one line for each step. A pair of state and event that it does not name must change nothing,
whether a run can be in that state or not.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from broker.message import Command, Event
from orchestrator.fulfilment import FULFILMENT
from orchestrator.saga import Phase, Saga, SagaRun, Step, Transition, advance
from orchestrator.wiring import ESCALATIONS
from services.delivery.messages import DeliveryRejected
from services.inventory.messages import ReleaseStock, ReserveStock, StockReleased, StockReserved
from services.order.messages import CompleteOrder, OrderCompleted
from services.vocabulary import Attention, BackwardEvent, ForwardEvent, StepFailed
from tests.support.protocol.cells import ID, WANTED, R, X
from tests.support.protocol.tables import LETTERS, TableFormatter

#: run | event | run, command. r is the event's reason, x the run's own.
TABLE = """
| none      | OrderPlaced         | AT 0, ReserveStock              |
| none      | OrderWithdrawn(r)   | ENDING(r), RejectOrder(r)       |
| AT 0      | StockReserved       | AT 1, AuthorizePayment          |
| AT 1      | PaymentAuthorized   | AT 2, ScheduleDelivery          |
| AT 2      | DeliveryScheduled   | AT 3, CompleteOrder             |
| AT 3      | OrderCompleted      | DONE                            |
| AT 0      | StockRejected(r)    | ENDING(r), RejectOrder(r)       |
| AT 1      | PaymentDeclined(r)  | UNDO 0(r), ReleaseStock(r)      |
| AT 2      | DeliveryRejected(r) | UNDO 1(r), VoidPayment(r)       |
| AT 0      | OrderWithdrawn(r)   | UNDO 0(r), ReleaseStock(r)      |
| AT 1      | OrderWithdrawn(r)   | UNDO 1(r), VoidPayment(r)       |
| AT 2      | OrderWithdrawn(r)   | UNDO 2(r), CancelDelivery(r)    |
| UNDO 2(x) | DeliveryCancelled(r)| UNDO 1(x), VoidPayment(x)       |
| UNDO 1(x) | PaymentVoided(r)    | UNDO 0(x), ReleaseStock(x)      |
| UNDO 0(x) | StockReleased(r)    | ENDING(x), RejectOrder(x)       |
| UNDO 2(x) | DeliveryScheduled   | AT 3, CompleteOrder             |
| ENDING(x) | OrderRejected(r)    | DONE(x)                         |
"""
EXPECTED = {
    (state, event): moved
    for state, event, moved in ((cell.strip() for cell in line.strip("|").split("|")) for line in TABLE.strip().splitlines())
}

#: Every event that the coordinator receives, with the reason r if it carries one.
EVENTS: dict[str, Event] = {}
for kind in (*FULFILMENT.events(), *ESCALATIONS):
    if issubclass(kind, BackwardEvent):
        EVENTS[f"{kind.__name__}(r)"] = kind(order_id=ID, reason=R)
    elif issubclass(kind, StepFailed):
        EVENTS[kind.__name__] = kind(order_id=ID, step="ReleaseStock", error="no shelf")
    else:
        EVENTS[kind.__name__] = kind(order_id=ID, details=WANTED) if issubclass(kind, ForwardEvent) else kind(order_id=ID)


def runs() -> Iterator[tuple[str, SagaRun | None]]:
    """No run, and a run in every phase at every step, unreachable ones included."""
    yield "none", None
    for phase in Phase:
        for step in range(len(FULFILMENT.steps)):
            reason = None if phase is Phase.AT else X
            run = SagaRun(order_id=ID, phase=phase, step=step, details=WANTED, reason=reason)
            yield run_text(run), run


def run_text(run: SagaRun) -> str:
    where = f"{run.phase} {run.step}" if run.phase in (Phase.AT, Phase.UNDO) else str(run.phase)
    return where + (f"({LETTER_OF[run.reason]})" if run.reason else "") + ("!" if run.attention else "")


LETTER_OF = {reason: letter for letter, reason in LETTERS.items()}


def transition_text(transition: Transition | None) -> str | None:
    if transition is None:
        return None
    run, command = transition
    return ", ".join([run_text(run), *([TableFormatter(LETTERS, WANTED).message(command)] if command else [])])


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize(
    ("state", "run"), [pytest.param(*case, id=f"{case[0]} step {case[1].step if case[1] else '-'}") for case in runs()]
)
def test_a_run_moves_as_the_table_says_and_in_no_other_case(state: str, run: SagaRun | None, event: str) -> None:
    stuck = isinstance(EVENTS[event], StepFailed) and run is not None and run.phase is not Phase.DONE
    assert transition_text(advance(FULFILMENT, run, EVENTS[event])) == (f"{state}!" if stuck else EXPECTED.get((state, event)))


@pytest.mark.parametrize(("state", "event"), [(state, event) for state, event in EXPECTED if state != "none"])
def test_a_run_that_moves_again_no_longer_needs_attention(state: str, event: str) -> None:
    run = next(run for name, run in runs() if name == state and run)
    marked = run.copy_with(attention=Attention(step="ReleaseStock", error="no shelf"))
    assert transition_text(advance(FULFILMENT, marked, EVENTS[event])) == EXPECTED[state, event]


def test_every_row_of_the_table_was_played() -> None:
    assert set(EXPECTED) <= {(state, event) for state, _ in runs() for event in EVENTS}


def test_a_forward_command_carries_the_order_from_its_first_event() -> None:
    transition = advance(FULFILMENT, None, EVENTS["OrderPlaced"])
    assert transition is not None
    _, command = transition
    assert command == ReserveStock(order_id=ID, details=WANTED)


# -- sagas that cannot be built

RESERVE, AUTHORIZE, SCHEDULE, COMPLETE = FULFILMENT.steps


def with_steps(*steps: Step) -> Saga:
    return replace(FULFILMENT, steps=steps)


def with_a_command_that_needs_boxes() -> Saga:
    class PackOrder(Command, service="delivery"):
        boxes: int

    return with_steps(RESERVE, AUTHORIZE, replace(SCHEDULE, command=PackOrder), COMPLETE)


REFUSED: dict[str, tuple[str, Callable[[], object]]] = {
    "two pivots": ("exactly one pivot", lambda: with_steps(RESERVE, replace(AUTHORIZE, pivot=True), SCHEDULE, COMPLETE)),
    "no pivot": ("exactly one pivot", lambda: with_steps(RESERVE, AUTHORIZE, COMPLETE)),
    "a retriable step before the pivot": ("retriable steps come last", lambda: with_steps(RESERVE, COMPLETE, SCHEDULE)),
    "a compensatable step after the pivot": ("after the pivot", lambda: with_steps(RESERVE, SCHEDULE, AUTHORIZE, COMPLETE)),
    "an undo without its event": ("come together", lambda: Step(ReserveStock, StockReserved, undo=ReleaseStock)),
    "an event without its undo": ("come together", lambda: Step(ReserveStock, StockReserved, undone=StockReleased)),
    "a step with neither": ("compensatable", lambda: Step(ReserveStock, StockReserved)),
    "a retriable step with an undo": (
        "compensatable",
        lambda: Step(ReserveStock, StockReserved, undo=ReleaseStock, undone=StockReleased, retriable=True),
    ),
    "a retriable step that can be refused": (
        "cannot be refused",
        lambda: Step(CompleteOrder, OrderCompleted, refused=DeliveryRejected, retriable=True),
    ),
    "a retriable pivot": ("nor be the pivot", lambda: Step(CompleteOrder, OrderCompleted, pivot=True, retriable=True)),
    "a command with a field that no run has": ("boxes", with_a_command_that_needs_boxes),
}


@pytest.mark.parametrize("what", REFUSED)
def test_an_invalid_saga_cannot_be_built(what: str) -> None:
    says, build = REFUSED[what]
    with pytest.raises(ValueError, match=re.escape(says)):
        build()
