"""Every message twice, late and in another order: the end is the same as without.

Two kinds of fault, both from seeds: a transport that publishes everything twice and late
(tests/support/broker/chaotic_transport.py), and a broker in memory that hands over any waiting message instead of the
oldest. Where an order races its own withdrawal, both ends are legal.
"""

import random
from collections import Counter
from collections.abc import Callable

import pytest

from bootstrap.memory_backend import MemoryBackend
from bootstrap.modes import Mode
from broker.memory.transport import MemoryBroker
from broker.transport import Wire
from lab.journeys.catalogue import JOURNEYS
from lab.journeys.run import JourneyRun
from lab.system import System
from tests.support.broker.chaotic_transport import MischievousParts
from tests.support.journey_checks import Verdict, judge, played
from tests.support.journey_outcomes import COMPLETED, stored_of
from tests.support.system import MODES, Servers, finish, in_memory, on_real_parts, published

SEEDS = range(4)
#: Journeys in which nothing races: their one end is promised, whatever the schedule.
STEADY = tuple(name for name in JOURNEYS if "withdraw" not in name and not name.endswith("-down"))
#: Journeys in which the withdrawal or the deadline races the pivot.
RACING = tuple(name for name in JOURNEYS if name not in STEADY)


def twice_and_late(seed: int) -> Callable[[Mode], MischievousParts]:
    return lambda mode: MischievousParts(MemoryBackend(mode, seed), seed)


def any_order(seed: int) -> Callable[[Mode], MemoryBackend]:
    """A broker that hands over any of the messages that wait."""
    rng = random.Random(seed)
    return lambda mode: MemoryBackend(mode, seed, broker=MemoryBroker(choose=rng.randrange))


def all_of_it(seed: int) -> Callable[[Mode], MischievousParts]:
    return lambda mode: MischievousParts(any_order(seed)(mode), seed)


MISCHIEF = {"twice and late": twice_and_late, "any order": any_order, "all of it": all_of_it}


@pytest.mark.parametrize("kind", MISCHIEF)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", STEADY)
def test_what_nothing_races_ends_the_same_under_mischief(name: str, mode: Mode, kind: str) -> None:
    for seed in SEEDS:
        judge(name, mode, in_memory(mode, lambda system: played(JOURNEYS[name], system), MISCHIEF[kind](seed)))


@pytest.mark.parametrize("kind", MISCHIEF)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", RACING)
def test_what_races_its_withdrawal_ends_in_one_of_the_two_legal_ways_under_mischief(name: str, mode: Mode, kind: str) -> None:
    for seed in SEEDS:
        verdict = in_memory(mode, lambda system: played(JOURNEYS[name], system), MISCHIEF[kind](seed))
        judge_race(name, verdict)


def judge_race(name: str, verdict: Verdict) -> None:
    """Completed with everything held, or rejected as its withdrawal says with nothing held; never anything between."""
    (reason,) = {end for end in JOURNEYS[name].ends if end != "COMPLETED"} or {"REJECTED withdrawn"}
    legal = {"COMPLETED", "REJECTED deadline" if name == "delivery-down" else reason}
    assert set(verdict.result.ends) <= legal
    assert verdict.result.ends, "the order never ended"
    assert verdict.result.audit.ok, verdict.result.audit.findings
    assert verdict.dead == {}
    completed = sum(count for stored, count in stored_of(verdict.result).items() if stored[:5] == COMPLETED[:5])
    assert completed == verdict.result.ends.get("COMPLETED", 0)


@pytest.mark.parametrize("mode", MODES)
def test_the_mischief_is_real(mode: Mode) -> None:
    """Every message reaches the broker twice, sometimes after what it caused: else the tests above would prove nothing."""

    async def many(system: System) -> list[Wire]:
        messages = published(system)
        run = JourneyRun(system)
        for _ in range(5):
            await run.place({"book": 1})
        await finish(run)
        return [item.wire for item in messages]

    wires = in_memory(mode, many, twice_and_late(1))
    assert set(Counter(wire.message_id for wire in wires).values()) == {2}
    last_copy = {wire.message_id: at for at, wire in enumerate(wires)}
    assert any(last_copy[cause] > at for at, wire in enumerate(wires) if (cause := wire.headers.get("causation_id")))


@pytest.mark.real
def test_on_real_parts_everything_twice_and_late_ends_the_same(mode: Mode, real: Servers, prefix: str) -> None:
    """Two journeys at once, twenty-one orders: one of everything that the happy path and the last unit have."""

    async def both(system: System) -> JourneyRun:
        run = JourneyRun(system)
        await JOURNEYS["last-unit"].script(run)
        await JOURNEYS["undeliverable"].script(run)
        result = await run.result()
        assert result.ends == {"COMPLETED": 1, "REJECTED out_of_stock": 19, "REJECTED undeliverable": 1}
        assert result.audit.ok, result.audit.findings
        return run

    on_real_parts(mode, MischievousParts(real.backend(prefix), seed=1), both)
