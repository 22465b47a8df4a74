"""The observer at work beside a mode: it hears all, nobody waits for it, and it says when it has lost something.

In memory, on virtual time; on real parts in tests/api/test_server_backend.py.
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
from observer import recorder as ear
from observer.documents import LOSSES_MAX, OBSERVATIONS_MAX, LossPeriods, ObservedOrder
from observer.history import History
from observer.queries import history_of, newest, open_orders
from observer.recorder import NAME, Observer
from services.order.messages import OrderCompleted
from store.protocol import DataRefused, OutcomeUnknown, StoreUnavailable
from tests.support.journey_observations import journey, told
from tests.support.system import MODES, broker_of, in_memory, published

T = TypeVar("T")


async def all_told(system: System, run: JourneyRun) -> list[History]:
    found = [await history_of(system.backend.store(NAME), system.mode, order_id) for order_id in run.order_ids]
    return [one for one in found if one]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", JOURNEYS)
def test_what_it_writes_down_is_what_was_said(mode: Mode, name: str) -> None:
    async def play(system: System) -> list[History]:
        run = JourneyRun(system)
        async with run_observer(system):
            await JOURNEYS[name].script(run)
            result = await run.result()
        assert result.ends == JOURNEYS[name].ends
        return await all_told(system, run)

    histories = in_memory(mode, play)
    ends = [" ".join(filter(None, (one.state, one.reason))) for one in histories]
    assert sorted(ends) == sorted(end for end, count in JOURNEYS[name].ends.items() for _ in range(count))
    assert all((one.gaps, one.remains) == ((), ()) for one in histories)
    if len(histories) == 1:
        assert (histories[0].why, len(histories[0].entries)) == (told(mode, name).why, len(told(mode, name).entries))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ["undeliverable", "withdraw-payment-late", "last-unit"])
def test_it_decides_nothing_a_mode_sends_the_same_messages_with_it_and_without(mode: Mode, name: str) -> None:
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
def test_killed_again_and_again_it_misses_nothing_and_delays_nobody(mode: Mode) -> None:
    async def play(system: System) -> list[History]:
        run = JourneyRun(system)
        for _ in range(6):
            transport = system.backend.transport(NAME)
            observer = Observer(system.client.topology, transport, system.backend.store(NAME), system.backend.environment)
            task = asyncio.create_task(observer.run())
            await system.wait_until(observer.ready.is_set, "the observer to hear")
            order_id = await run.place({"book": 1})
            await run.wait_for_end(order_id)
            task.cancel()  # at whatever it does
            await asyncio.wait([task])
            await transport.close()
            await run.wait_for_end(await run.place({"book": 1}))  # nobody hears this one live
        async with run_observer(system):
            pass  # it catches up
        return await all_told(system, run)

    histories = in_memory(mode, play)
    assert [one.state for one in histories[:10]] == ["COMPLETED"] * 10
    assert len(histories) == 12
    assert all(one.gaps == () for one in histories)


def test_a_queue_that_overflows_while_it_is_away_shows_as_a_time_of_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ear, "QUEUE_MAX", 8)

    async def play(system: System) -> list[History]:
        run = JourneyRun(system)
        async with run_observer(system):
            await run.wait_for_end(await run.place({"book": 1}))
            await asyncio.sleep(5.0)
        for _ in range(3):
            await asyncio.sleep(5.0)
            await run.wait_for_end(await run.place({"book": 1}))
        async with run_observer(system) as observer:
            await system.wait_until(observer.has_caught_up, "the observer to have written all down")
            await asyncio.sleep(5.0)
            await run.wait_for_end(await run.place({"book": 1}))
            await asyncio.sleep(5.0)
        return await all_told(system, run)

    before, cut, last, after = in_memory(Mode.CHOREOGRAPHY, play)  # six messages an order: of the second nothing is left
    assert (before.gaps, after.gaps) == ((), ())
    assert any("lost messages" in gap for gap in cut.gaps)
    assert (last.state, last.gaps) == ("COMPLETED", ())


@pytest.mark.parametrize("outages", [0, 2])
def test_a_queue_that_was_deleted_while_it_was_away_shows_as_a_time_of_loss(
    outages: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    declare, left = MemoryTransport.declare, [TransportUnavailable("away")] * outages

    async def declaring(transport: MemoryTransport, topology: Topology) -> None:
        await declare(transport, topology)
        if left and topology.listeners:
            raise left.pop()  # it was done, and the answer was lost

    async def play(system: System) -> LossPeriods:
        async with run_observer(system):
            await asyncio.sleep(5.0)
        await asyncio.sleep(5.0)
        broker_of(system).delete(replace(ear.with_observer(system.client.topology), queues=()))
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


def test_a_queue_that_is_taken_away_under_it_ends_it_so_that_another_can_begin_anew() -> None:
    async def play(system: System) -> BaseException | None:
        transport = system.backend.transport(NAME)
        observer = Observer(system.client.topology, transport, system.backend.store(NAME), system.backend.environment)
        task = asyncio.create_task(observer.run())
        await system.wait_until(observer.ready.is_set, "the observer to hear")
        broker_of(system).delete(replace(ear.with_observer(system.client.topology), queues=()))
        await system.wait_until(task.done, "it to end")
        await transport.close()
        return task.exception()

    assert isinstance(in_memory(Mode.CHOREOGRAPHY, play), UnsafeTopology)


@pytest.mark.parametrize("error", [StoreUnavailable, OutcomeUnknown])
def test_a_database_that_is_away_is_waited_for_and_nothing_is_missing(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome = [error("away")] * 5

    async def play(system: System) -> list[History]:
        run = JourneyRun(system)
        async with run_observer(system) as observer:
            fail_first(observer, outcome, monkeypatch)
            await run.wait_for_end(await run.place({"book": 1}))
        return await all_told(system, run)

    (one,) = in_memory(Mode.CHOREOGRAPHY, play)
    assert (one.state, one.gaps, outcome) == ("COMPLETED", (), [])


def test_what_its_database_refuses_for_good_is_a_loss_and_it_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    async def play(system: System) -> list[History]:
        run = JourneyRun(system)
        async with run_observer(system) as observer:
            fail_first(observer, [DataRefused("no")], monkeypatch)
            await run.wait_for_end(await run.place({"book": 1}))
            await system.wait_until(observer.has_caught_up, "the observer to have written all down")
            await asyncio.sleep(5.0)
            await run.wait_for_end(await run.place({"book": 1}))
        return await all_told(system, run)

    histories = in_memory(Mode.CHOREOGRAPHY, play)
    assert (histories[-1].state, histories[-1].gaps) == ("COMPLETED", ())
    assert all(one.gaps for one in histories[:-1])


def fail_first(observer: Observer, errors: list[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the next attempts to write messages down fail."""
    write: Callable[..., Awaitable[None]] = observer._record

    async def failing(heard: object) -> None:
        if errors:
            raise errors.pop()
        await write(heard)

    monkeypatch.setattr(observer, "_record", failing)


def test_what_is_no_message_of_ours_is_heard_and_forgotten() -> None:
    async def play(system: System) -> int:
        async with run_observer(system):
            address = system.client.topology.dead_address("payment")
            transport = system.backend.transport("stranger")
            await transport.open()
            await transport.publish([Outgoing(address, Wire(b"\xff", type="nonsense"))])
        return len(await newest(system.backend.store(NAME), system.mode, 10))

    assert in_memory(Mode.CHOREOGRAPHY, play) == 0


def test_what_came_by_another_key_than_its_type_is_not_believed() -> None:
    """A worker may use its own keys, and the broker does not look at what it says behind them."""

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
def test_open_orders_are_found_until_they_end_the_stalest_first(mode: Mode) -> None:
    async def play(system: System) -> None:
        run, store, now = JourneyRun(system), system.backend.store(NAME), system.backend.environment.now

        async def still_open(patience_s: float) -> list[str]:
            await system.wait_until(observer.has_caught_up, "the observer to have written all down")
            return [one.order_id for one in await open_orders(store, mode, now() - patience_s, 10)]

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


# --- its documents --------------------------------------------------------------------------------------------------------


def test_of_an_order_that_goes_round_and_round_it_keeps_so_many_messages_and_says_that_it_does() -> None:
    (first, *_) = journey(Mode.CHOREOGRAPHY, "happy")
    many = [replace(first, message_id=f"019b0000-0000-7000-8000-{number:012x}") for number in range(OBSERVATIONS_MAX + 1)]
    whole = ObservedOrder(order_id=first.order_id).with_observations(many[:-1])
    assert (len(whole.all()), whole.cut, whole.with_observations(many[:-1])) == (OBSERVATIONS_MAX, False, whole)
    assert (len(whole.with_observations(many).all()), whole.with_observations(many).cut) == (OBSERVATIONS_MAX, True)


def test_losses_that_touch_become_one_and_those_that_do_not_stay_apart() -> None:
    losses = LossPeriods(sure_until=10.0).with_loss(12.0).with_loss(15.0)
    assert losses.times == ((10.0, 15.0),)
    assert losses.copy_with(sure_until=20.0).with_loss(19.0).times == ((10.0, 15.0), (20.0, 20.0))


def test_of_too_many_losses_the_oldest_become_one() -> None:
    losses = LossPeriods(sure_until=0.0)
    for second in range(LOSSES_MAX + 1):
        losses = losses.copy_with(sure_until=float(2 * second)).with_loss(float(2 * second + 1))
    assert len(losses.times) == LOSSES_MAX
    assert losses.times[:2] == ((0.0, 3.0), (4.0, 5.0))
