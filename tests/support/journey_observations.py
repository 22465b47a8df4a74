"""Journeys as they were heard: every message that reached the broker in memory, in both modes."""

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

#: So often is an overdue order heard to be withdrawn.
OFTEN = 4


@cache
def journey(mode: Mode, name: str) -> tuple[Observation, ...]:
    """The first order of a journey, message by message, copies that were put aside included."""

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
    """What an observer that heard everything says of the first order of a journey."""
    return build_history(MESSAGE_FLOWS[mode], journey(mode, name))


@cache
def failing(mode: Mode, *failures: str) -> tuple[History, str, str | None]:
    """What is told of one order with injected failures, then how it stands in the databases: state and reason."""

    async def play(system: System) -> tuple[list[Outgoing], OrderStatus]:
        messages, run = published(system), JourneyRun(system)
        order_id = await run.place({"book": 2}, *failures)

        async def at_an_end() -> bool:
            found = await order_status(system.stores, order_id)
            return found is not None and not found.is_progressing

        await system.wait_until(at_an_end, "the order to end or to need attention", timeout_s=200.0)
        found = await order_status(system.stores, order_id)
        assert found is not None
        return messages, found

    messages, stands = in_memory(mode, play)
    one = build_history(MESSAGE_FLOWS[mode], [seen(message.wire) for message in messages])
    brief = stands.summary()
    return one, str(brief["state"]), brief["reason"]


@cache
def overdue(mode: Mode, *failures: str) -> tuple[Observation, ...]:
    """What was heard of one order with injected failures until it was withdrawn OFTEN times, and a second more."""

    async def play(system: System) -> list[Outgoing]:
        messages, run = published(system), JourneyRun(system)
        await run.place({"book": 2}, *failures)

        async def said_again() -> bool:
            return [message.wire.type for message in messages].count(OrderWithdrawn.type_name) == OFTEN

        await system.wait_until(said_again, "the order to be withdrawn again and again", timeout_s=400.0)
        await asyncio.sleep(1.0)
        return messages

    return tuple(seen(message.wire) for message in in_memory(mode, play))
