"""The whole corpus, sent to every consumer of both modes: a dead letter with its reason each, and nothing else notices.

In memory each consumer alone, with good messages before, between and after; on real parts all at once,
with orders from the door in between.
"""

import asyncio

import pytest

from bootstrap.modes import Mode, roles
from broker.codec import DeadReason
from broker.rabbitmq.transport import RabbitTransport
from broker.topology import Address, queue_of
from broker.transport import Delivery, Outgoing, Wire
from lab.journeys.run import JourneyRun
from lab.system import System
from tests.support.broker.raw_messages import GARBAGE, publish_raw
from tests.support.malformed_messages.corpus import CORPUS, GOOD, Bad, prop
from tests.support.malformed_messages.sender import CONSUMERS, Sender, alone, backward_kind, forward_kind
from tests.support.system import MODES, Servers, dead_letters, finish, in_memory, on_real_parts, published


def test_the_corpus_has_no_name_twice_and_every_reason_of_the_decoder() -> None:
    names = [bad.name for bad in CORPUS]
    assert len(set(names)) == len(names) >= 100
    reasons = {str(bad.reason) for bad in CORPUS}
    assert reasons == {
        *("not_json", "too_large", "wrong_schema", "missing_property", "wrong_correlation"),
        *("unknown_type", "wrong_content_type", "wrong_version", "bad_header"),
    }


def test_every_consumer_is_sent_at_least_sixty_of_each_corpus_and_every_way_of_being_bad() -> None:
    assert len(CONSUMERS) == 9  # four services in each mode, and the coordinator
    assert len([bad for bad in CORPUS if bad.of == "forward"]) >= 60
    for mode, worker in CONSUMERS:
        assert forward_kind(mode, worker), "what has an order's details"
        assert backward_kind(mode, worker), "what has a reason"


@pytest.mark.parametrize(("mode", "worker"), CONSUMERS)
def test_each_bad_message_is_a_dead_letter_and_the_good_ones_around_it_are_handled(mode: Mode, worker: str) -> None:
    async def play(system: System) -> None:
        await alone(system, worker)
        seen, sender = published(system), Sender(system, worker)
        middle = len(CORPUS) // 2
        good = await sender.send(sender.good())
        await sender.send_bad(CORPUS[:middle])
        good += await sender.send(sender.good())
        await sender.send_bad(CORPUS[middle:])
        good += await sender.send(sender.good())
        await system.wait_until(sender.all_dead, "all bad messages to be dead letters")
        for order_id in good:
            await system.wait_until(lambda: sender.handled(order_id), "a good message to be handled")  # noqa: B023 - awaited here
        await asyncio.sleep(30.0)
        await sender.judge()
        assert not [item for item in seen if item.delay_s], "something was put aside to be tried again"
        assert not system.running[worker].task.done(), "the worker did not live on"
        assert not await system.has_waiting_messages(worker)

    in_memory(mode, play)


@pytest.mark.parametrize(("mode", "worker"), CONSUMERS)
def test_a_bad_message_that_comes_alone_does_no_harm_either(mode: Mode, worker: str) -> None:
    """One batch each, the good one in the next batch."""

    async def play(system: System) -> None:
        await alone(system, worker)
        sender = Sender(system, worker)
        for bad in CORPUS:
            await sender.send_bad((bad,))
            await asyncio.sleep(0.01)
        (order_id,) = await sender.send(sender.good())
        await system.wait_until(lambda: sender.handled(order_id), "the good message to be handled")
        await sender.judge()

    in_memory(mode, play)


@pytest.mark.parametrize(("mode", "worker"), CONSUMERS)
def test_a_bad_message_that_came_back_from_a_lost_connection_is_a_dead_letter_all_the_same(mode: Mode, worker: str) -> None:
    """Twice: it might have killed its worker, so its id is looked up; which is a stranger's text, and no key for a database."""

    async def play(system: System) -> None:
        await alone(system, worker)
        await system.stop(worker)
        sender = Sender(system, worker)
        unspeakable = Bad("an id that has no UTF-8 form", DeadReason.MISSING_PROPERTY, prop(message_id="\ud800"))
        await sender.send_bad((*CORPUS, unspeakable))
        (order_id,) = await sender.send(sender.good())
        for _ in range(2):
            await taken_and_lost(system, worker, len(CORPUS) + 2)
        await system.start(worker)
        await system.wait_until(lambda: sender.handled(order_id), "the good message to be handled")
        await sender.judge()

    in_memory(mode, play)


async def taken_and_lost(system: System, worker: str, count: int) -> None:
    """Somebody takes `count` messages of a worker's queue, and loses the connection."""
    transport, taken = system.backend.transport("somebody"), list[Delivery]()
    await transport.open()
    await transport.consume(queue_of(system.client.topology.prefix, worker), count, taken.append)
    await system.wait_until(lambda: len(taken) == count, "all to be taken")
    await transport.close()


@pytest.mark.parametrize(("mode", "worker"), CONSUMERS)
def test_what_is_odd_and_good_is_handled(mode: Mode, worker: str) -> None:
    async def play(system: System) -> None:
        await alone(system, worker)
        sender = Sender(system, worker)
        for name, spoil in GOOD.items():
            (order_id,) = await sender.send(spoil(sender.good()))
            await system.wait_until(lambda: sender.handled(order_id), f"{name} to be handled", timeout_s=5.0)  # noqa: B023 - awaited here
        assert await dead_letters(system, worker) == []

    in_memory(mode, play)


@pytest.mark.parametrize(("mode", "worker"), CONSUMERS)
def test_no_consumer_accepts_what_is_meant_for_another(mode: Mode, worker: str) -> None:
    """Every message type of the project: this worker's own are accepted, all others are dead letters."""
    every = {kind.type_name: kind for other in MODES for role in roles(other).values() for kind in role.accepts}
    accepted = set(roles(mode)[worker].types)

    async def play(system: System) -> None:
        await alone(system, worker)
        sender = Sender(system, worker)
        foreign = sorted(set(every) - accepted)
        assert foreign
        wires = []
        for type_name in foreign:
            good = sender.good()
            wires.append(Wire(good.body, good.message_id, good.correlation_id, type_name, content_type=good.content_type))
        await sender.send(*wires)

        async def all_dead() -> bool:
            return len(await dead_letters(system, worker)) == len(foreign)

        await system.wait_until(all_dead, "all to be dead letters", timeout_s=5.0)
        reasons = {(wire.type, wire.headers["dead_reason"]) for wire in await dead_letters(system, worker)}
        assert reasons == {(type_name, "unknown_type") for type_name in foreign}

    in_memory(mode, play)


@pytest.mark.real
def test_the_whole_corpus_at_every_consumer_of_a_running_mode_on_real_parts(mode: Mode, real: Servers, prefix: str) -> None:
    async def play(system: System) -> None:
        run = JourneyRun(system)
        senders = [Sender(system, worker) for worker in roles(mode)]
        middle = len(CORPUS) // 2
        await run.place({"book": 1})
        for sender in senders:
            await sender.send_bad(CORPUS[:middle])
        await run.place({"book": 1})
        for sender in senders:
            await sender.send_bad(CORPUS[middle:])
        await run.place({"book": 1})
        for sender in senders:
            await system.wait_until(sender.all_dead, f"all bad messages at {sender.worker} to be dead letters")
        await finish(run)
        for sender in senders:
            await sender.judge()
        result = await run.result()
        assert result.ends == {"COMPLETED": 3}
        assert result.audit.ok, result.audit.findings
        assert set(result.snapshot.orders) == set(run.order_ids), "a bad message left something behind"

    on_real_parts(mode, real.backend(prefix), play)


@pytest.mark.real
def test_properties_that_are_garbage_at_every_consumer_of_a_running_mode_on_real_parts(
    mode: Mode, real: Servers, prefix: str
) -> None:
    """Bytes that no library of ours would write, with good orders before and after."""

    async def play(system: System) -> None:
        run, stranger = JourneyRun(system), RabbitTransport(real.broker_url, "stranger")
        await stranger.open()
        await run.place({"book": 1})
        for worker in roles(mode):
            for header in GARBAGE.values():
                queue = Address("", queue_of(system.client.topology.prefix, worker), mandatory=True)
                publish_raw(stranger, Outgoing(queue, Wire(b"")), header)
        await run.place({"book": 1})
        for worker in roles(mode):
            await system.wait_until(lambda: dead_are(system, worker, len(GARBAGE)), f"the garbage at {worker} to be dead letters")  # noqa: B023 - awaited here
        await finish(run)
        await stranger.close()
        dead = [wire for worker in roles(mode) for wire in await dead_letters(system, worker)]
        assert {wire.headers["dead_reason"] for wire in dead} == {"missing_property"}
        assert (await run.result()).ends == {"COMPLETED": 2}
        assert (await run.result()).audit.ok

    on_real_parts(mode, real.backend(prefix), play)


async def dead_are(system: System, worker: str, count: int) -> bool:
    return len(await dead_letters(system, worker)) == count
