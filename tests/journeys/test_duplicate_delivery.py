"""Journeys with every message duplicated, delayed and reordered end as they do without.

Two kinds of fault, both from seeds: a transport that publishes everything twice and late
(tests/support/broker/chaotic_transport.py), and an in-memory broker that delivers any waiting message instead of the oldest.
The duplicates also run on real servers, at the end. Where an order races its own withdrawal, both ends are legal.
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
from tests.support.broker.chaotic_transport import ChaoticBackend
from tests.support.journey_checks import Verdict, judge, played
from tests.support.journey_outcomes import COMPLETED, stored_of
from tests.support.system import MODES, Servers, finish, in_memory, on_servers, published

SEEDS = range(4)
#: Journeys without a race: they have one legal end in every schedule.
STEADY = tuple(name for name in JOURNEYS if "withdraw" not in name and not name.endswith("-down"))
#: Journeys in which a withdrawal or the deadline races the pivot.
RACING = tuple(name for name in JOURNEYS if name not in STEADY)


def duplicated(seed: int) -> Callable[[Mode], ChaoticBackend]:
    return lambda mode: ChaoticBackend(MemoryBackend(mode, seed), seed)


def reordered(seed: int) -> Callable[[Mode], MemoryBackend]:
    """Back ends with a broker that delivers any of the waiting messages."""
    rng = random.Random(seed)
    return lambda mode: MemoryBackend(mode, seed, broker=MemoryBroker(choose=rng.randrange))


def duplicated_and_reordered(seed: int) -> Callable[[Mode], ChaoticBackend]:
    return lambda mode: ChaoticBackend(reordered(seed)(mode), seed)


CHAOS = {"duplicated": duplicated, "reordered": reordered, "duplicated and reordered": duplicated_and_reordered}


@pytest.mark.parametrize("kind", CHAOS)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", STEADY)
def test_a_journey_without_a_race_has_one_end_on_a_chaotic_transport(name: str, mode: Mode, kind: str) -> None:
    for seed in SEEDS:
        judge(name, mode, in_memory(mode, lambda system: played(JOURNEYS[name], system), CHAOS[kind](seed)))


@pytest.mark.parametrize("kind", CHAOS)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", RACING)
def test_a_racing_journey_ends_legally_on_a_chaotic_transport(name: str, mode: Mode, kind: str) -> None:
    for seed in SEEDS:
        verdict = in_memory(mode, lambda system: played(JOURNEYS[name], system), CHAOS[kind](seed))
        judge_race(name, verdict)


def judge_race(name: str, verdict: Verdict) -> None:
    """The order is completed and holds everything, or is rejected for its withdrawal and holds nothing."""
    (reason,) = {end for end in JOURNEYS[name].ends if end != "COMPLETED"} or {"REJECTED withdrawn"}
    legal = {"COMPLETED", "REJECTED deadline" if name == "delivery-down" else reason}
    assert set(verdict.result.ends) <= legal
    assert verdict.result.ends, "the order never ended"
    assert verdict.result.audit.ok, verdict.result.audit.findings
    assert verdict.dead == {}
    completed = sum(count for stored, count in stored_of(verdict.result).items() if stored[:5] == COMPLETED[:5])
    assert completed == verdict.result.ends.get("COMPLETED", 0)


@pytest.mark.parametrize("mode", MODES)
def test_messages_are_duplicated_and_reordered(mode: Mode) -> None:
    """Every message reaches the broker twice, and some copies after the messages that they caused."""

    async def many(system: System) -> list[Wire]:
        messages = published(system)
        run = JourneyRun(system)
        for _ in range(5):
            await run.place({"book": 1})
        await finish(run)
        return [item.wire for item in messages]

    wires = in_memory(mode, many, duplicated(1))
    assert set(Counter(wire.message_id for wire in wires).values()) == {2}
    last_copy = {wire.message_id: at for at, wire in enumerate(wires)}
    assert any(last_copy[cause] > at for at, wire in enumerate(wires) if (cause := wire.headers.get("causation_id")))


@pytest.mark.real
def test_duplicated_messages_on_servers_do_not_change_the_ends(mode: Mode, real: Servers, prefix: str) -> None:
    """Two journeys at once with twenty-one orders."""

    async def both(system: System) -> JourneyRun:
        run = JourneyRun(system)
        await JOURNEYS["last-unit"].script(run)
        await JOURNEYS["undeliverable"].script(run)
        result = await run.result()
        assert result.ends == {"COMPLETED": 1, "REJECTED out_of_stock": 19, "REJECTED undeliverable": 1}
        assert result.audit.ok, result.audit.findings
        return run

    on_servers(mode, ChaoticBackend(real.backend(prefix), seed=1), both)
