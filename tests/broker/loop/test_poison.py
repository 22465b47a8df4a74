"""A message that kills its worker: it costs three restarts at most, becomes a dead letter by itself, and no neighbour does."""

import asyncio
from collections.abc import Sequence

import pytest

from broker.codec import DeadReason
from broker.limits import Limits
from broker.worker import Worker
from lab.system import WorkerCrashed
from tests.support.toy_service import How, Stage, Till, on_stage

KILLER_COSTS = 3


async def kept_running(stage: Stage, replicas: int = 1) -> int:
    """Run the till, start it again whenever it dies, until nothing is left for it. Gives how often it was started again.

    Nobody else runs: what the till says waits for ever."""
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
        assert restarts < 50, "it is started again for ever"
        await asyncio.sleep(0.05)
    return restarts


async def handled(stage: Stage) -> dict[str, int]:
    """Order id -> how often something was put into its till."""
    tills = [Till.from_body(record.body) for record in await stage.store("till").find(Till.collection)]
    return {till.order_id: till.times for till in tills}


@pytest.mark.parametrize("place", [0, 7, 19])
@pytest.mark.parametrize("batch_max", [1, 4, 256])
def test_a_killer_costs_three_restarts_and_nobody_but_itself(place: int, batch_max: int) -> None:
    async def play(stage: Stage) -> None:
        ways: Sequence[How] = [How.KILLS if index == place else How.WELL for index in range(20)]
        orders = await stage.put_in(*ways)
        assert await kept_running(stage) <= KILLER_COSTS
        (letter,) = stage.broker.dead_letters("till")
        assert letter.correlation_id == orders[place]
        assert letter.headers["dead_reason"] == DeadReason.POISON_MESSAGE
        assert await handled(stage) == {order: 1 for index, order in enumerate(orders) if index != place}

    on_stage(play, limits=Limits(batch_max=batch_max, prefetch=512))


def test_two_killers_and_two_replicas_lose_only_the_two() -> None:
    async def play(stage: Stage) -> None:
        orders = await stage.put_in(*([How.WELL] * 5 + [How.KILLS] + [How.WELL] * 5 + [How.KILLS] + [How.WELL] * 5))
        await kept_running(stage, replicas=2)
        assert {letter.correlation_id for letter in stage.broker.dead_letters("till")} == {orders[5], orders[11]}
        assert await handled(stage) == {order: 1 for order in orders if order not in (orders[5], orders[11])}

    on_stage(play)


def test_a_connection_that_is_lost_again_and_again_makes_nobody_a_killer() -> None:
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

    on_stage(play)
