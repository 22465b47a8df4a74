"""The observer beside a running mode: it records every message, delays no worker, and records what it has lost.

In memory, on virtual time.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import replace
from typing import TypeVar

import pytest

from bootstrap.modes import Mode
from broker.codec import Origin, encode
from broker.memory.transport import MemoryTransport
from broker.topology import Address, Topology, events_exchange
from broker.transport import Outgoing, TransportUnavailable, UnsafeTopology, Wire
from lab.journeys.catalogue import JOURNEYS
from lab.journeys.run import JourneyRun
from lab.system import System, run_observer
from observer import recorder
from observer.documents import LOSSES_MAX, OBSERVATIONS_MAX, LossPeriods, ObservedOrder
from observer.history import History
from observer.queries import history_of, newest, open_orders
from observer.recorder import NAME, Observer
from services.order.messages import OrderCompleted
from store.protocol import DataRefused, OutcomeUnknown, StoreUnavailable
from tests.support.journey_observations import journey, told
from tests.support.system import MODES, broker_of, in_memory, published

T = TypeVar("T")


async def recorded_histories(system: System, run: JourneyRun) -> list[History]:
    found = [await history_of(system.backend.store(NAME), system.mode, order_id) for order_id in run.order_ids]
    return [one for one in found if one]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", JOURNEYS)
def test_recorded_history_is_that_of_the_journey(mode: Mode, name: str) -> None:
    async def play(system: System) -> list[History]:
        run = JourneyRun(system)
        async with run_observer(system):
            await JOURNEYS[name].script(run)
            result = await run.result()
        assert result.ends == JOURNEYS[name].ends
        return await recorded_histories(system, run)

    histories = in_memory(mode, play)
    ends = [" ".join(filter(None, (one.state, one.reason))) for one in histories]
    assert sorted(ends) == sorted(end for end, count in JOURNEYS[name].ends.items() for _ in range(count))
    assert all((one.gaps, one.remains) == ((), ()) for one in histories)
    if len(histories) == 1:
        assert (histories[0].why, len(histories[0].entries)) == (told(mode, name).why, len(told(mode, name).entries))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ["undeliverable", "withdraw-payment-late", "last-unit"])
def test_mode_sends_the_same_messages_with_and_without_the_observer(mode: Mode, name: str) -> None:
    async def play(system: System, beside: AbstractAsyncContextManager[object]) -> list[tuple[str, str]]:
        messages, run = published(system), JourneyRun(system)
        async with beside:
            await JOURNEYS[name].script(run)
            await run.result()
        return sorted((str(message.wire.app_id), str(message.wire.type)) for message in messages)

    with_it = in_memory(mode, lambda system: play(system, run_observer(system)))
    assert with_it == in_memory(mode, lambda system: play(system, nullcontext()))
    assert NAME not in {sender for sender, _ in with_it}


@pytest.mark.parametrize("mode", MODES)
def test_observer_that_is_killed_repeatedly_misses_nothing(mode: Mode) -> None:
    async def play(system: System) -> list[History]:
        run = JourneyRun(system)
        for _ in range(6):
            transport = system.backend.transport(NAME)
            observer = Observer(system.client.topology, transport, system.backend.store(NAME), system.backend.environment)
            task = asyncio.create_task(observer.run())
            await system.wait_until(observer.ready.is_set, "the observer to consume")
            order_id = await run.place({"book": 1})
            await run.wait_for_end(order_id)
            task.cancel()  # at any point
            await asyncio.wait([task])
            await transport.close()
            await run.wait_for_end(await run.place({"book": 1}))  # no observer runs meanwhile
        async with run_observer(system):
            pass  # it catches up
        return await recorded_histories(system, run)

    histories = in_memory(mode, play)
    assert [one.state for one in histories[:10]] == ["COMPLETED"] * 10
    assert len(histories) == 12
    assert all(one.gaps == () for one in histories)


def test_queue_that_overflows_is_recorded_as_a_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder, "QUEUE_MAX", 8)

    async def play(system: System) -> list[History]:
        run = JourneyRun(system)
        async with run_observer(system):
            await run.wait_for_end(await run.place({"book": 1}))
            await asyncio.sleep(5.0)
        for _ in range(3):
            await asyncio.sleep(5.0)
            await run.wait_for_end(await run.place({"book": 1}))
        async with run_observer(system) as observer:
            await system.wait_until(observer.has_caught_up, "the observer to have recorded everything")
            await asyncio.sleep(5.0)
            await run.wait_for_end(await run.place({"book": 1}))
            await asyncio.sleep(5.0)
        return await recorded_histories(system, run)

    before, cut, last, after = in_memory(Mode.CHOREOGRAPHY, play)  # six messages an order: none of the second is kept
    assert (before.gaps, after.gaps) == ((), ())
    assert any("lost messages" in gap for gap in cut.gaps)
    assert (last.state, last.gaps) == ("COMPLETED", ())


@pytest.mark.parametrize("outages", [0, 2])
def test_queue_deleted_while_the_observer_is_down_is_a_loss(outages: int, monkeypatch: pytest.MonkeyPatch) -> None:
    declare, left = MemoryTransport.declare, [TransportUnavailable("away")] * outages

    async def declaring(transport: MemoryTransport, topology: Topology) -> None:
        await declare(transport, topology)
        if left and topology.listeners:
            raise left.pop()  # the queue is declared, and the answer is lost

    async def play(system: System) -> LossPeriods:
        async with run_observer(system):
            await asyncio.sleep(5.0)
        await asyncio.sleep(5.0)
        broker_of(system).delete(replace(recorder.with_observer(system.client.topology), queues=()))
        transport = system.backend.transport("again")
        await transport.open()
        await transport.declare(system.client.topology)
        monkeypatch.setattr(MemoryTransport, "declare", declaring)
        async with run_observer(system):
            await asyncio.sleep(5.0)
        (record,) = await system.backend.store(NAME).find(LossPeriods.collection)
        return LossPeriods.from_body(record.body)

    losses = in_memory(Mode.CHOREOGRAPHY, play)
    ((since, until),) = losses.times
    assert 9.0 < until - since < 12.0


def test_queue_deleted_under_the_observer_ends_it() -> None:
    async def play(system: System) -> BaseException | None:
        transport = system.backend.transport(NAME)
        observer = Observer(system.client.topology, transport, system.backend.store(NAME), system.backend.environment)
        task = asyncio.create_task(observer.run())
        await system.wait_until(observer.ready.is_set, "the observer to consume")
        broker_of(system).delete(replace(recorder.with_observer(system.client.topology), queues=()))
        await system.wait_until(task.done, "the observer to end")
        await transport.close()
        return task.exception()

    assert isinstance(in_memory(Mode.CHOREOGRAPHY, play), UnsafeTopology)


@pytest.mark.parametrize("error", [StoreUnavailable, OutcomeUnknown])
def test_unavailable_database_is_waited_for_without_a_loss(error: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = [error("away")] * 5

    async def play(system: System) -> list[History]:
        run = JourneyRun(system)
        async with run_observer(system) as observer:
            fail_first(observer, outcome, monkeypatch)
            await run.wait_for_end(await run.place({"book": 1}))
        return await recorded_histories(system, run)

    (one,) = in_memory(Mode.CHOREOGRAPHY, play)
    assert (one.state, one.gaps, outcome) == ("COMPLETED", (), [])


def test_batch_that_the_database_refuses_is_a_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    async def play(system: System) -> list[History]:
        run = JourneyRun(system)
        async with run_observer(system) as observer:
            fail_first(observer, [DataRefused("no")], monkeypatch)
            await run.wait_for_end(await run.place({"book": 1}))
            await system.wait_until(observer.has_caught_up, "the observer to have recorded everything")
            await asyncio.sleep(5.0)
            await run.wait_for_end(await run.place({"book": 1}))
        return await recorded_histories(system, run)

    histories = in_memory(Mode.CHOREOGRAPHY, play)
    assert (histories[-1].state, histories[-1].gaps) == ("COMPLETED", ())
    assert all(one.gaps for one in histories[:-1])


def fail_first(observer: Observer, errors: list[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the next attempts to record messages fail."""
    record: Callable[..., Awaitable[None]] = observer._record

    async def failing(observed: object) -> None:
        if errors:
            raise errors.pop()
        await record(observed)

    monkeypatch.setattr(observer, "_record", failing)


def test_message_of_an_unknown_type_is_not_recorded() -> None:
    async def play(system: System) -> int:
        async with run_observer(system):
            address = system.client.topology.dead_address("payment")
            transport = system.backend.transport("unknown")
            await transport.open()
            await transport.publish([Outgoing(address, Wire(b"\xff", type="nonsense"))])
        return len(await newest(system.backend.store(NAME), system.mode, 10))

    assert in_memory(Mode.CHOREOGRAPHY, play) == 0


def test_message_with_another_routing_key_than_its_type_is_dropped() -> None:
    """The broker's permissions hold a worker to its routing keys, and do not cover the type in the message."""

    async def play(system: System) -> list[bool]:
        environment, known = system.backend.environment, []
        async with run_observer(system):
            transport = system.backend.transport("inventory")
            await transport.open()
            for key in ("inventory.Anything", OrderCompleted.type_name):
                message = OrderCompleted(order_id=environment.new_id())
                wire = encode(message, message_id=environment.new_id(), now=environment.now(), app_id="order", origin=Origin())
                await transport.publish([Outgoing(Address(events_exchange(system.mode), key, mandatory=False), wire)])
                known.append(message.order_id)
        store = system.backend.store(NAME)
        return [await history_of(store, system.mode, order_id) is not None for order_id in known]

    assert in_memory(Mode.CHOREOGRAPHY, play) == [False, True]


@pytest.mark.parametrize("mode", MODES)
def test_open_orders_are_found_until_they_end_the_oldest_first(mode: Mode) -> None:
    async def play(system: System) -> None:
        run, store, now = JourneyRun(system), system.backend.store(NAME), system.backend.environment.now

        async def still_open(older_than_s: float) -> list[str]:
            await system.wait_until(observer.has_caught_up, "the observer to have recorded everything")
            return [one.order_id for one in await open_orders(store, mode, now() - older_than_s, 10)]

        async with run_observer(system) as observer:
            await run.stop("payment")
            for _ in range(2):
                await run.wait_for_queued_step(await run.place({"book": 1}), "payment")
                await asyncio.sleep(5.0)
            assert await still_open(0.0) == run.order_ids
            assert await still_open(8.0) == run.order_ids[:1]
            await run.start("payment")
            for order_id in run.order_ids:
                await run.wait_for_end(order_id)
            assert await still_open(0.0) == []
            assert [one.state for one in await newest(store, mode, 10)] == ["COMPLETED"] * 2

    in_memory(mode, play)


# --- documents ------------------------------------------------------------------------------------------------------------


def test_observations_of_one_order_are_bounded() -> None:
    (first, *_) = journey(Mode.CHOREOGRAPHY, "happy")
    many = [replace(first, message_id=f"019b0000-0000-7000-8000-{number:012x}") for number in range(OBSERVATIONS_MAX + 1)]
    whole = ObservedOrder(order_id=first.order_id).with_observations(many[:-1])
    assert (len(whole.all()), whole.cut, whole.with_observations(many[:-1])) == (OBSERVATIONS_MAX, False, whole)
    assert (len(whole.with_observations(many).all()), whole.with_observations(many).cut) == (OBSERVATIONS_MAX, True)


def test_adjacent_losses_are_joined() -> None:
    losses = LossPeriods(sure_until=10.0).with_loss(12.0).with_loss(15.0)
    assert losses.times == ((10.0, 15.0),)
    assert losses.copy_with(sure_until=20.0).with_loss(19.0).times == ((10.0, 15.0), (20.0, 20.0))


def test_oldest_losses_are_joined_when_there_are_too_many() -> None:
    losses = LossPeriods(sure_until=0.0)
    for second in range(LOSSES_MAX + 1):
        losses = losses.copy_with(sure_until=float(2 * second)).with_loss(float(2 * second + 1))
    assert len(losses.times) == LOSSES_MAX
    assert losses.times[:2] == ((0.0, 3.0), (4.0, 5.0))
