"""The whole corpus, sent to every consumer of both modes: a dead letter with its reason each, and nothing else notices.

In memory each consumer alone, with good messages before, between and after; on real parts all at once,
with orders from the door in between.
"""

import asyncio
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

import pytest

from api.sample_orders import order_of
from bootstrap.modes import Mode, roles
from broker.codec import DeadReason, Origin, encode
from broker.message import Message
from broker.rabbitmq.transport import RabbitTransport
from broker.topology import Address, dead_queue, queue_of
from broker.transport import Delivery, Outgoing, Wire
from lab.journeys.run import Run
from lab.system import System, set_up_stock
from services.vocabulary import BackwardCommand, BackwardEvent, ForwardCommand, ForwardEvent, Line, Reason
from tests.rabbitmq_behaviour.test_rabbitmq_behaviour import GARBAGE, publish_raw
from tests.support.malformed_messages.corpus import CORPUS, GOOD, Bad, prop
from tests.support.system import MODES, Servers, dead_letters, finish, in_memory, on_real_parts, published

CONSUMERS = [(mode, worker) for mode in MODES for worker in roles(mode)]
#: Where each worker keeps one document an order.
KEPT_IN = {
    "order": "orders",
    "inventory": "reservations",
    "payment": "payments",
    "delivery": "deliveries",
    "coordinator": "sagas",
}


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


def forward_kind(mode: Mode, worker: str) -> type[Message]:
    """The message with an order's details that this consumer accepts."""
    return next(kind for kind in roles(mode)[worker].accepts if issubclass(kind, ForwardCommand | ForwardEvent))


def backward_kind(mode: Mode, worker: str) -> type[Message]:
    """The message with a reason that this consumer accepts."""
    return next(kind for kind in roles(mode)[worker].accepts if issubclass(kind, BackwardCommand | BackwardEvent))


class Sender:
    """Makes good messages for one consumer, and sends good and bad ones to it."""

    def __init__(self, system: System, worker: str) -> None:
        self._system = system
        self.kinds = {"forward": forward_kind(system.mode, worker), "backward": backward_kind(system.mode, worker)}
        self.worker = worker
        self.sent_bad: list[tuple[Bad, Wire]] = []

    def good(self, of: str = "forward") -> Wire:
        sources = self._system.parts.sources
        what = {"details": order_of([Line(sku="book", quantity=1)])} if of == "forward" else {"reason": Reason.WITHDRAWN}
        message = self.kinds[of](order_id=sources.new_id(), **what)  # type: ignore[arg-type]
        return encode(message, message_id=sources.new_id(), now=sources.now(), app_id="stranger", origin=Origin())

    async def send(self, *wires: Wire) -> list[str]:
        """To where this consumer gets its forward messages from, whatever they are. Gives the order ids."""
        await self._publish((wire, "forward") for wire in wires)
        return [str(wire.correlation_id) for wire in wires]

    async def _publish(self, letters: Iterable[tuple[Wire, str]]) -> None:
        """Each to where this consumer gets messages of that kind from."""
        to = {of: self._system.door.topology.address_of(kind) for of, kind in self.kinds.items()}
        await self._system.door.transport.publish([Outgoing(to[of], wire) for wire, of in letters])

    async def send_bad(self, corpus: tuple[Bad, ...]) -> None:
        """Each under its name as `app_id`, which nobody looks at: so its dead letter is known again."""
        bad = [(each, replace(each.spoil(self.good(each.of)), app_id=each.name)) for each in corpus]
        self.sent_bad += bad
        await self._publish((wire, each.of) for each, wire in bad)

    async def all_dead(self) -> bool:
        queue = dead_queue(queue_of(self._system.door.topology.prefix, self.worker))
        return await self._system.door.transport.depth(queue) >= len(self.sent_bad)

    async def judge(self) -> None:
        """Every bad message is one dead letter, with its reason, and otherwise as it came."""
        letters = await dead_letters(self._system, self.worker)
        assert Counter(wire.app_id for wire in letters) == Counter(bad.name for bad, _ in self.sent_bad)
        dead = {wire.app_id: wire for wire in letters}
        for bad, sent in self.sent_bad:
            wire = dead[bad.name]
            assert wire.headers["dead_reason"] == str(bad.reason), f"{bad.name}: {wire.headers['dead_detail']}"
            assert wire.headers["dead_detail"], bad.name
            assert wire.headers["attempts"] == 1, bad.name
            assert (wire.body, wire.type, wire.message_id) == (sent.body, sent.type, sent.message_id), bad.name

    async def handled(self, order_id: str) -> bool:
        return bool(await self._system.stores[self.worker].find(KEPT_IN[self.worker], {"order_id": order_id}))


async def alone(system: System, worker: str) -> None:
    """Stop every other worker, so that what this one says is heard by nobody."""
    for other in list(system.running):
        if other != worker:
            await system.stop(other)
    await set_up_stock(system.stores["inventory"], {"book": 10_000})


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
        await system.until(sender.all_dead, "all bad messages to be dead letters")
        for order_id in good:
            await system.until(lambda: sender.handled(order_id), "a good message to be handled")  # noqa: B023 - awaited here
        await asyncio.sleep(30.0)
        await sender.judge()
        assert not [item for item in seen if item.delay_s], "something was put aside to be tried again"
        assert not system.running[worker].task.done(), "the worker did not live on"
        assert not await system.waiting(worker)

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
        await system.until(lambda: sender.handled(order_id), "the good message to be handled")
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
        await system.until(lambda: sender.handled(order_id), "the good message to be handled")
        await sender.judge()

    in_memory(mode, play)


async def taken_and_lost(system: System, worker: str, count: int) -> None:
    """Somebody takes `count` messages of a worker's queue, and loses the connection."""
    transport, taken = system.parts.transport("somebody"), list[Delivery]()
    await transport.open()
    await transport.consume(queue_of(system.door.topology.prefix, worker), count, taken.append)
    await system.until(lambda: len(taken) == count, "all to be taken")
    await transport.close()


@pytest.mark.parametrize(("mode", "worker"), CONSUMERS)
def test_what_is_odd_and_good_is_handled(mode: Mode, worker: str) -> None:
    async def play(system: System) -> None:
        await alone(system, worker)
        sender = Sender(system, worker)
        for name, spoil in GOOD.items():
            (order_id,) = await sender.send(spoil(sender.good()))
            await system.until(lambda: sender.handled(order_id), f"{name} to be handled", timeout_s=5.0)  # noqa: B023 - awaited here
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

        await system.until(all_dead, "all to be dead letters", timeout_s=5.0)
        reasons = {(wire.type, wire.headers["dead_reason"]) for wire in await dead_letters(system, worker)}
        assert reasons == {(type_name, "unknown_type") for type_name in foreign}

    in_memory(mode, play)


@pytest.mark.real
def test_the_whole_corpus_at_every_consumer_of_a_running_mode_on_real_parts(mode: Mode, real: Servers, prefix: str) -> None:
    async def play(system: System) -> None:
        run = Run(system)
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
            await system.until(sender.all_dead, f"all bad messages at {sender.worker} to be dead letters")
        await finish(run)
        for sender in senders:
            await sender.judge()
        result = await run.result()
        assert result.ends == {"COMPLETED": 3}
        assert result.audit.ok, result.audit.findings
        assert set(result.seen.orders) == set(run.order_ids), "a bad message left something behind"

    on_real_parts(mode, real.parts(prefix), play)


@pytest.mark.real
def test_properties_that_are_garbage_at_every_consumer_of_a_running_mode_on_real_parts(
    mode: Mode, real: Servers, prefix: str
) -> None:
    """Bytes that no library of ours would write, with good orders before and after."""

    async def play(system: System) -> None:
        run, stranger = Run(system), RabbitTransport(real.broker_url, "stranger")
        await stranger.open()
        await run.place({"book": 1})
        for worker in roles(mode):
            for header in GARBAGE.values():
                queue = Address("", queue_of(system.door.topology.prefix, worker), mandatory=True)
                publish_raw(stranger, Outgoing(queue, Wire(b"")), header)
        await run.place({"book": 1})
        for worker in roles(mode):
            await system.until(lambda: dead_are(system, worker, len(GARBAGE)), f"the garbage at {worker} to be dead letters")  # noqa: B023 - awaited here
        await finish(run)
        await stranger.close()
        dead = [wire for worker in roles(mode) for wire in await dead_letters(system, worker)]
        assert {wire.headers["dead_reason"] for wire in dead} == {"missing_property"}
        assert (await run.result()).ends == {"COMPLETED": 2}
        assert (await run.result()).audit.ok

    on_real_parts(mode, real.parts(prefix), play)


async def dead_are(system: System, worker: str, count: int) -> bool:
    return len(await dead_letters(system, worker)) == count
