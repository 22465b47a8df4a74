"""A withdrawal after every message of the happy path, and at several moments between messages, always has a legal end.

The pivot decides which: the order is rejected exactly if delivery barred it before scheduling it, or never received
ScheduleDelivery.
"""

import asyncio

import pytest

from bootstrap.modes import Mode
from broker.transport import Outgoing, Wire
from lab.journeys.run import JourneyResult, JourneyRun
from lab.system import System
from services.delivery.messages import DeliveryCancelled, DeliveryScheduled
from tests.support.system import MODES, all_dead_letters, broker_of, in_memory, published

#: The number of messages on the happy path, the client's included.
HAPPY_PATH = {Mode.ORCHESTRATOR: 10, Mode.CHOREOGRAPHY: 6}
#: Turns of the event loop before the withdrawal: a worker needs several for a batch, so these fall between its steps.
TURNS = range(12)
WITHDRAWN, COMPLETED = {"REJECTED withdrawn": 1}, {"COMPLETED": 1}


async def withdrawn_after(system: System, count: int, turns: int) -> tuple[JourneyResult, list[Wire]]:
    """Place an order and withdraw it `turns` of the loop after message number `count`. Returns the result and all messages."""
    seen = published(system)
    reached = asyncio.Event()

    def check_count(_: Outgoing) -> None:
        if len(seen) == count:
            reached.set()

    broker_of(system).on_publish.append(check_count)
    run = JourneyRun(system)
    order_id = await run.place({"book": 2})
    await reached.wait()
    for _ in range(turns):
        await asyncio.sleep(0)
    await run.withdraw(order_id)
    result = await run.result()
    assert await all_dead_letters(system) == {}
    return result, [item.wire for item in seen]


def barred(wires: list[Wire]) -> bool:
    """Whether delivery handled CancelDelivery before ScheduleDelivery, or neither, judged by its first event."""
    events = [wire.type for wire in wires if wire.type in (DeliveryCancelled.type_name, DeliveryScheduled.type_name)]
    return not events or events[0] == DeliveryCancelled.type_name


@pytest.mark.parametrize("mode", MODES)
def test_the_happy_path_has_the_expected_number_of_messages(mode: Mode) -> None:
    async def happy(system: System) -> int:
        seen = published(system)
        run = JourneyRun(system)
        await run.place({"book": 2})
        await run.result()
        return len(seen)

    assert in_memory(mode, happy) == HAPPY_PATH[mode]


@pytest.mark.parametrize(("mode", "count"), [(mode, count) for mode in MODES for count in range(1, HAPPY_PATH[mode] + 1)])
def test_a_withdrawal_after_any_message_ends_as_the_pivot_decides(mode: Mode, count: int) -> None:
    for turns in TURNS:
        result, wires = in_memory(mode, lambda system: withdrawn_after(system, count, turns))  # noqa: B023 - run at once
        assert result.ends == (WITHDRAWN if barred(wires) else COMPLETED), f"{turns} turns later"
        assert result.audit.ok, result.audit.findings


@pytest.mark.parametrize("mode", MODES)
def test_the_sweep_reaches_both_ends(mode: Mode) -> None:
    first, _ = in_memory(mode, lambda system: withdrawn_after(system, 1, 0))
    last, _ = in_memory(mode, lambda system: withdrawn_after(system, HAPPY_PATH[mode], 0))
    assert first.ends == WITHDRAWN
    assert last.ends == COMPLETED
