"""Poison messages: dead-lettered after at most three worker restarts, without affecting other messages."""

import asyncio
from collections.abc import Sequence

import pytest

from broker.codec import DeadReason
from broker.limits import Limits
from broker.worker import Worker
from lab.system import WorkerCrashed
from tests.support.toy_service import How, Stage, Till, run_scenario

POISON_RESTARTS = 3


async def run_until_done(stage: Stage, replicas: int = 1) -> int:
    """Run the till and restart it after each crash until its queue is empty. Return the number of restarts."""
    restarts = 0

    def begin() -> Worker:
        worker = stage.worker("till")
        stage.start(worker)
        return worker

    stage.start(stage.worker("ledger"), stage.worker("bell"))
    workers = [begin() for _ in range(replicas)]
    while await stage.waiting("till") or not all(worker.idle for worker in workers):
        for index, worker in enumerate(workers):
            if stage.tasks[worker].done():
                assert isinstance(stage.tasks.pop(worker).exception(), WorkerCrashed)
                worker.transport.crash()  # type: ignore[attr-defined]
                restarts += 1
                workers[index] = begin()
        assert restarts < 50, "the worker crashes again and again"
        await asyncio.sleep(0.05)
    return restarts


async def handled(stage: Stage) -> dict[str, int]:
    """Return order id -> how often its till was changed."""
    tills = [Till.from_body(record.body) for record in await stage.store("till").find(Till.collection)]
    return {till.order_id: till.times for till in tills}


@pytest.mark.parametrize("position", [0, 7, 19])
@pytest.mark.parametrize("batch_max", [1, 4, 256])
def test_poison_message_costs_three_restarts_and_no_other_message(position: int, batch_max: int) -> None:
    async def play(stage: Stage) -> None:
        behaviours: Sequence[How] = [How.CRASHES if index == position else How.WELL for index in range(20)]
        orders = await stage.put_in(*behaviours)
        assert await run_until_done(stage) <= POISON_RESTARTS
        (letter,) = stage.broker.dead_letters("till")
        assert letter.correlation_id == orders[position]
        assert letter.headers["dead_reason"] == DeadReason.POISON_MESSAGE
        assert await handled(stage) == {order: 1 for index, order in enumerate(orders) if index != position}

    run_scenario(play, limits=Limits(batch_max=batch_max, prefetch=512))


def test_two_poison_messages_at_two_replicas_lose_only_themselves() -> None:
    async def play(stage: Stage) -> None:
        orders = await stage.put_in(*([How.WELL] * 5 + [How.CRASHES] + [How.WELL] * 5 + [How.CRASHES] + [How.WELL] * 5))
        await run_until_done(stage, replicas=2)
        assert {letter.correlation_id for letter in stage.broker.dead_letters("till")} == {orders[5], orders[11]}
        assert await handled(stage) == {order: 1 for order in orders if order not in (orders[5], orders[11])}

    run_scenario(play)


def test_lost_connections_make_no_message_a_poison_message() -> None:
    async def play(stage: Stage) -> None:
        worker = stage.worker("till")
        stage.start(worker, stage.worker("ledger"), stage.worker("bell"))
        orders = await stage.put_in(*[How.WELL] * 30)
        for _ in range(10):
            worker.transport.cut()  # type: ignore[attr-defined]
            await asyncio.sleep(0.01)
            worker.transport.restore()  # type: ignore[attr-defined]
            await asyncio.sleep(0)
        await stage.rest()
        assert stage.broker.dead_letters("till") == []
        assert await handled(stage) == dict.fromkeys(orders, 1)

    run_scenario(play)
