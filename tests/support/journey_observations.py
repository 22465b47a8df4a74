"""The observations of journeys: every message that reached the in-memory broker, in both modes."""

import asyncio
from functools import cache

from bootstrap.modes import Mode
from broker.transport import Outgoing, Wire
from lab.journeys.catalogue import JOURNEYS
from lab.journeys.run import JourneyRun
from lab.system import System
from observer.history import History, build_history
from observer.message_flow import MESSAGE_FLOWS
from observer.observation import Observation, observation_of
from ops.order_status import OrderStatus, order_status
from services.order.messages import OrderWithdrawn
from tests.support.system import in_memory, published

#: After how many withdrawals of an overdue order `overdue` stops.
WITHDRAWALS = 4


@cache
def journey(mode: Mode, name: str) -> tuple[Observation, ...]:
    """The observations of a journey's first order, retries and dead letters included."""

    async def play(system: System) -> tuple[list[Outgoing], str]:
        messages, run = published(system), JourneyRun(system)
        await JOURNEYS[name].script(run)
        await run.result()
        return messages, run.order_ids[0]

    messages, order_id = in_memory(mode, play)
    return tuple(seen(message.wire) for message in messages if message.wire.correlation_id == order_id)


def seen(wire: Wire) -> Observation:
    observation = observation_of(wire)
    assert observation is not None
    return observation


def told(mode: Mode, name: str) -> History:
    """The history of a journey's first order, from all observations."""
    return build_history(MESSAGE_FLOWS[mode], journey(mode, name))


@cache
def failing(mode: Mode, *failures: str) -> tuple[History, str, str | None]:
    """The history of one order with injected failures, and its state and reason in the databases."""

    async def play(system: System) -> tuple[list[Outgoing], OrderStatus]:
        messages, run = published(system), JourneyRun(system)
        order_id = await run.place({"book": 2}, *failures)

        async def is_at_rest() -> bool:
            found = await order_status(system.stores, order_id)
            return found is not None and not found.is_progressing

        await system.wait_until(is_at_rest, "the order to end or to need attention", timeout_s=200.0)
        found = await order_status(system.stores, order_id)
        assert found is not None
        return messages, found

    messages, status = in_memory(mode, play)
    history = build_history(MESSAGE_FLOWS[mode], [seen(message.wire) for message in messages])
    summary = status.summary()
    return history, str(summary["state"]), summary["reason"]


@cache
def overdue(mode: Mode, *failures: str) -> tuple[Observation, ...]:
    """The observations of one order with injected failures, until one second after its withdrawal number WITHDRAWALS."""

    async def play(system: System) -> list[Outgoing]:
        messages, run = published(system), JourneyRun(system)
        await run.place({"book": 2}, *failures)

        async def is_withdrawn_often() -> bool:
            return [message.wire.type for message in messages].count(OrderWithdrawn.type_name) == WITHDRAWALS

        await system.wait_until(is_withdrawn_often, f"{WITHDRAWALS} withdrawals of the order", timeout_s=400.0)
        await asyncio.sleep(1.0)
        return messages

    return tuple(seen(message.wire) for message in in_memory(mode, play))
