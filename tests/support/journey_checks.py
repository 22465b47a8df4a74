"""Run a journey and check everything that it leaves behind: the same checks in memory and on servers."""

from dataclasses import dataclass
from typing import Any

from bootstrap.modes import Mode
from lab.journeys.catalogue import INITIAL_STOCK, JOURNEYS, Journey
from lab.journeys.run import JourneyResult, JourneyRun
from lab.system import System
from orchestrator.saga import Phase
from tests.support.journey_outcomes import EXPECTED, stored_of
from tests.support.system import all_dead_letters

#: Journeys that together use every command, every event and every reaction.
BUSY_JOURNEYS = (
    "happy",
    "out-of-stock",
    "declined",
    "undeliverable",
    "withdraw-inventory-down",
    "withdraw-payment-pending",
    "delivery-down",
)


@dataclass(frozen=True)
class Verdict:
    """The result of one journey and its dead letters: worker -> reasons."""

    result: JourneyResult
    dead: dict[str, list[str]]


async def played(journey: Journey, system: System) -> Verdict:
    """Run the journey to its end."""
    run = JourneyRun(system)
    await journey.script(run)
    return Verdict(await run.result(), await all_dead_letters(system))


def judge(name: str, mode: Mode, verdict: Verdict) -> None:
    """Check the result of the journey `name`, the stock and the gateway's books. Raises AssertionError for a difference."""
    result, journey, expected = verdict.result, JOURNEYS[name], EXPECTED[name]
    assert result.ends == journey.ends
    assert stored_of(result) == expected.of(mode)
    assert result.compensations == expected_compensations(journey, mode)
    assert result.audit.ok, result.audit.findings
    assert verdict.dead == {}
    phases = {order_id: run.phase for order_id, run in result.snapshot.sagas.items()}
    started = set(result.snapshot.orders) if mode is Mode.ORCHESTRATOR and expected.has_saga else set()
    assert phases == dict.fromkeys(started, Phase.DONE)
    _judge_stock(result)
    _judge_money(result)


def expected_compensations(journey: Journey, mode: Mode) -> tuple[str, ...]:
    if mode is Mode.CHOREOGRAPHY and journey.compensations_in_choreography is not None:
        return journey.compensations_in_choreography
    return journey.compensations


def _judge_stock(result: JourneyResult) -> None:
    """The units that are no longer available are those of completed orders, and they are held."""
    bought: dict[str, int] = dict.fromkeys(INITIAL_STOCK, 0)
    for order in result.snapshot.orders.values():
        if order.state == "COMPLETED":
            assert order.details is not None
            for sku, quantity in order.details.quantities().items():
                bought[sku] += quantity
    left = {sku: (stock.available, stock.held) for sku, stock in result.snapshot.stock.items()}
    assert left == {sku: (INITIAL_STOCK[sku] - bought[sku], bought[sku]) for sku in INITIAL_STOCK}


def _judge_money(result: JourneyResult) -> None:
    """The gateway holds what completed orders cost, to the cent."""
    holds = {
        key: book_entry.amount_cents for key, book_entry in result.snapshot.books.items() if book_entry.state == "authorized"
    }
    completed = {order_id: order for order_id, order in result.snapshot.orders.items() if order.state == "COMPLETED"}
    assert holds == {order_id: order.details.total_cents for order_id, order in completed.items() if order.details}


def subclasses(kind: type[Any]) -> set[type[Any]]:
    """All subclasses of a class, at any depth."""
    return {found for child in kind.__subclasses__() for found in {child} | subclasses(child)}
