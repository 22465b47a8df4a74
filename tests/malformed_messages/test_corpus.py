"""The corpus of bad messages, sent to every consumer of both modes: each is dead-lettered with its reason.

In memory each consumer runs alone, with good messages before, between and after. On real servers all run at once, with orders
placed in between.
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
from tests.support.system import MODES, Servers, dead_letters, finish, in_memory, on_servers, published


def test_corpus_names_are_unique_and_cover_every_reason() -> None:
    names = [bad.name for bad in CORPUS]
    assert len(set(names)) == len(names) >= 100
    reasons = {str(bad.reason) for bad in CORPUS}
    assert reasons == {
        *("not_json", "too_large", "wrong_schema", "missing_property", "wrong_correlation"),
        *("unknown_type", "wrong_content_type", "wrong_version", "bad_header"),
    }


def test_corpus_covers_every_consumer() -> None:
    assert len(CONSUMERS) == 9  # four services in each mode, and the coordinator
    assert len([bad for bad in CORPUS if bad.of == "forward"]) >= 60
    for mode, worker in CONSUMERS:
        assert forward_kind(mode, worker), "a message with an order's details"
        assert backward_kind(mode, worker), "a message with a reason"


@pytest.mark.parametrize(("mode", "worker"), CONSUMERS)
def test_bad_messages_are_dead_lettered_and_good_ones_handled(mode: Mode, worker: str) -> None:
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
        assert not [item for item in seen if item.delay_s], "a message was retried"
        assert not system.running[worker].task.done(), "the worker ended"
        assert not await system.has_waiting_messages(worker)

    in_memory(mode, play)


@pytest.mark.parametrize(("mode", "worker"), CONSUMERS)
def test_bad_message_in_a_batch_of_its_own_is_dead_lettered(mode: Mode, worker: str) -> None:
    """One batch for each bad message, and the good one in the next batch."""

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
def test_redelivered_bad_messages_are_dead_lettered(mode: Mode, worker: str) -> None:
    """Twice: the ids of suspected poison messages are looked up, and these ids are untrusted text."""

    async def play(system: System) -> None:
        await alone(system, worker)
        await system.stop(worker)
        sender = Sender(system, worker)
        not_utf8 = Bad("an id that has no UTF-8 form", DeadReason.MISSING_PROPERTY, prop(message_id="\ud800"))
        await sender.send_bad((*CORPUS, not_utf8))
        (order_id,) = await sender.send(sender.good())
        for _ in range(2):
            await consume_and_disconnect(system, worker, len(CORPUS) + 2)
        await system.start(worker)
        await system.wait_until(lambda: sender.handled(order_id), "the good message to be handled")
        await sender.judge()

    in_memory(mode, play)


async def consume_and_disconnect(system: System, worker: str, count: int) -> None:
    """Consume `count` messages of a worker's queue, and disconnect."""
    transport, taken = system.backend.transport("other"), list[Delivery]()
    await transport.open()
    await transport.consume(queue_of(system.client.topology.prefix, worker), count, taken.append)
    await system.wait_until(lambda: len(taken) == count, "all to be delivered")
    await transport.close()


@pytest.mark.parametrize(("mode", "worker"), CONSUMERS)
def test_unusual_valid_messages_are_handled(mode: Mode, worker: str) -> None:
    async def play(system: System) -> None:
        await alone(system, worker)
        sender = Sender(system, worker)
        for name, spoil in GOOD.items():
            (order_id,) = await sender.send(spoil(sender.good()))
            await system.wait_until(lambda: sender.handled(order_id), f"{name} to be handled", timeout_s=5.0)  # noqa: B023 - awaited here
        assert await dead_letters(system, worker) == []

    in_memory(mode, play)


@pytest.mark.parametrize(("mode", "worker"), CONSUMERS)
def test_messages_of_another_consumer_are_refused(mode: Mode, worker: str) -> None:
    """Of all message types, a worker accepts its own and dead-letters the others."""
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
def test_corpus_at_every_consumer_on_real_servers(mode: Mode, real: Servers, prefix: str) -> None:
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
        assert set(result.snapshot.orders) == set(run.order_ids), "a bad message had an effect"

    on_servers(mode, real.backend(prefix), play)


@pytest.mark.real
def test_malformed_properties_at_every_consumer_on_real_servers(mode: Mode, real: Servers, prefix: str) -> None:
    """Properties that no client library would write, with good orders before and after."""

    async def play(system: System) -> None:
        run, raw_client = JourneyRun(system), RabbitTransport(real.broker_url, "malformed sender")
        await raw_client.open()
        await run.place({"book": 1})
        for worker in roles(mode):
            for header in GARBAGE.values():
                queue = Address("", queue_of(system.client.topology.prefix, worker), mandatory=True)
                publish_raw(raw_client, Outgoing(queue, Wire(b"")), header)
        await run.place({"book": 1})
        for worker in roles(mode):
            what = f"the malformed messages at {worker} to be dead letters"
            await system.wait_until(lambda: are_dead(system, worker, len(GARBAGE)), what)  # noqa: B023 - awaited here
        await finish(run)
        await raw_client.close()
        dead = [wire for worker in roles(mode) for wire in await dead_letters(system, worker)]
        assert {wire.headers["dead_reason"] for wire in dead} == {"missing_property"}
        assert (await run.result()).ends == {"COMPLETED": 2}
        assert (await run.result()).audit.ok

    on_servers(mode, real.backend(prefix), play)


async def are_dead(system: System, worker: str, count: int) -> bool:
    return len(await dead_letters(system, worker)) == count
