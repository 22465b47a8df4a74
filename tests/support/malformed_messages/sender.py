"""A sender of good and malformed messages to one consumer, and the check of the dead letters they become."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

from api.sample_orders import sample_order
from bootstrap.modes import Mode, roles
from broker.codec import Origin, encode
from broker.message import Message
from broker.topology import dead_queue, queue_of
from broker.transport import Outgoing, Wire
from lab.system import System, set_up_stock
from services.vocabulary import BackwardCommand, BackwardEvent, ForwardCommand, ForwardEvent, Line, Reason
from tests.support.malformed_messages.corpus import Bad
from tests.support.system import MODES, dead_letters

#: Every worker of every mode.
CONSUMERS = [(mode, worker) for mode in MODES for worker in roles(mode)]
#: Worker -> the collection in which it keeps one document for each order.
KEPT_IN = {
    "order": "orders",
    "inventory": "reservations",
    "payment": "payments",
    "delivery": "deliveries",
    "coordinator": "sagas",
}


def forward_kind(mode: Mode, worker: str) -> type[Message]:
    """Return the type with an order's details that this consumer accepts."""
    return next(kind for kind in roles(mode)[worker].accepts if issubclass(kind, ForwardCommand | ForwardEvent))


def backward_kind(mode: Mode, worker: str) -> type[Message]:
    """Return the type with a reason that this consumer accepts."""
    return next(kind for kind in roles(mode)[worker].accepts if issubclass(kind, BackwardCommand | BackwardEvent))


class Sender:
    """Makes good messages for one consumer, and sends good and bad ones to it."""

    def __init__(self, system: System, worker: str) -> None:
        self._system = system
        self.kinds = {"forward": forward_kind(system.mode, worker), "backward": backward_kind(system.mode, worker)}
        self.worker = worker
        self.sent_bad: list[tuple[Bad, Wire]] = []

    def good(self, of: str = "forward") -> Wire:
        environment = self._system.backend.environment
        what = {"details": sample_order([Line(sku="book", quantity=1)])} if of == "forward" else {"reason": Reason.WITHDRAWN}
        message = self.kinds[of](order_id=environment.new_id(), **what)  # type: ignore[arg-type]
        return encode(message, message_id=environment.new_id(), now=environment.now(), app_id="test-sender", origin=Origin())

    async def send(self, *wires: Wire) -> list[str]:
        """Publish any messages to the address of the consumer's forward messages; return their order ids."""
        await self._publish((wire, "forward") for wire in wires)
        return [str(wire.correlation_id) for wire in wires]

    async def _publish(self, letters: Iterable[tuple[Wire, str]]) -> None:
        """Publish each message to the address of its kind, forward or backward."""
        to = {of: self._system.client.topology.address_of(kind) for of, kind in self.kinds.items()}
        await self._system.client.transport.publish([Outgoing(to[of], wire) for wire, of in letters])

    async def send_bad(self, corpus: tuple[Bad, ...]) -> None:
        """Publish bad messages, each with its name as `app_id`, which identifies its dead letter."""
        bad = [(each, replace(each.spoil(self.good(each.of)), app_id=each.name)) for each in corpus]
        self.sent_bad += bad
        await self._publish((wire, each.of) for each, wire in bad)

    async def all_dead(self) -> bool:
        queue = dead_queue(queue_of(self._system.client.topology.prefix, self.worker))
        return await self._system.client.transport.depth(queue) >= len(self.sent_bad)

    async def judge(self) -> None:
        """Assert that every bad message became one dead letter, unchanged, with its reason."""
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
    """Stop every other worker, so that messages of this one are not handled."""
    for other in list(system.running):
        if other != worker:
            await system.stop(other)
    await set_up_stock(system.stores["inventory"], {"book": 10_000})
