"""A toy service for tests of the loop: a till, and two consumers of its event. No order, no saga, no gateway.

`PutIn.how` selects what the till's handler does with a message. `Stage` holds a broker in memory, a database for each worker, and
workers that a test starts, stops and crashes one by one.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from enum import StrEnum
from typing import Any, ClassVar

from bootstrap.memory_backend import seeded_environment
from broker.codec import Origin, encode
from broker.handler import NOTHING, Context, Documents, Handler, Outcome, ProtocolViolation
from broker.limits import Limits
from broker.memory.transport import MemoryBroker, MemoryTransport
from broker.message import Command, Event
from broker.role import Role, Service, Timer, identity, topology_of
from broker.topology import dead_queue, queue_of
from broker.transport import Outgoing, Transport, Wire
from broker.worker import Worker
from lab.system import WorkerCrashed
from lab.virtual_time import run_on_virtual_time
from store.document import Document, Key
from store.memory import MemoryDatabase, MemoryStore
from store.protocol import Store

PREFIX = "toy"


class How(StrEnum):
    """What happens to a message."""

    WELL = "well"
    RAISES = "raises"  # the handler raises
    KEYS_RAISE = "keys_raise"  # `required_keys` raises
    VIOLATES = "violates"  # the handler raises ProtocolViolation
    CRASHES = "crashes"  # the handler crashes the process
    REFUSED = "refused"  # the database refuses the document
    WAITS = "waits"  # the document gets a timer, which fires
    WAITS_BADLY = "waits_badly"  # the same, and the handler of the timer raises


class PutIn(Command, service="till"):
    """Put an amount into the till of the order."""

    amount: int
    how: How = How.WELL


class WasPutIn(Event, service="till"):
    """An amount was put into the till."""

    amount: int


class Woken(Command, service="till"):
    """A local input: the timer is due."""


class Till(Document):
    """The total in a till, and how often something was put in."""

    collection: ClassVar[str] = "tills"

    order_id: str
    total: int = 0
    times: int = 0
    woken: int = 0
    how: How = How.WELL
    due_at: float | None = None


class Entry(Document):
    """The total that a consumer of the event has counted, and how often."""

    collection: ClassVar[str] = "entries"

    order_id: str
    total: int = 0
    times: int = 0


def _till_keys(command: PutIn, _: Documents) -> Iterable[Key]:
    if command.how is How.KEYS_RAISE:
        raise LookupError("the document is not known")
    return (Till.key_of(command.order_id),)


def _put_in(command: PutIn, documents: Documents, context: Context) -> Outcome:
    if command.how is How.RAISES:
        raise ArithmeticError("thirteen is not an amount")
    if command.how is How.CRASHES:
        raise WorkerCrashed
    if command.how is How.VIOLATES:
        raise ProtocolViolation("not possible in this state")
    till = documents.get(Till, command.order_id) or Till(order_id=command.order_id)
    amount = 2**70 if command.how is How.REFUSED else command.amount
    waits = command.how in (How.WAITS, How.WAITS_BADLY)
    due_at = context.now + 1.0 if waits else None
    till = till.copy_with(total=till.total + amount, times=till.times + 1, how=command.how, due_at=due_at)
    return Outcome((till,), (WasPutIn(order_id=command.order_id, amount=command.amount),))


def _wake(command: Woken, documents: Documents, context: Context) -> Outcome:
    till = documents.get(Till, command.order_id)
    if till is None or till.due_at is None or till.due_at > context.now:
        return NOTHING  # a timer may fire twice
    if till.how is How.WAITS_BADLY:
        raise ArithmeticError("woken badly")
    return Outcome((till.copy_with(woken=till.woken + 1, due_at=None),), (WasPutIn(order_id=till.order_id, amount=0),))


def _woken_keys(command: Woken, _: Documents) -> Iterable[Key]:
    return (Till.key_of(command.order_id),)


def _entry_keys(event: WasPutIn, _: Documents) -> Iterable[Key]:
    return (Entry.key_of(event.order_id),)


def _enter(event: WasPutIn, documents: Documents, _: Context) -> Outcome:
    entry = documents.get(Entry, event.order_id) or Entry(order_id=event.order_id)
    return Outcome((entry.copy_with(total=entry.total + event.amount, times=entry.times + 1),))


def roles() -> dict[str, Role]:
    """Return the roles of the till and of two consumers of its event."""
    till = Service("till", {PutIn: Handler(_till_keys, _put_in), Woken: Handler(_woken_keys, _wake)}, (Timer(Till, Woken),))
    listeners = [Service(name, {WasPutIn: Handler(_entry_keys, _enter)}) for name in ("ledger", "bell")]
    return {
        "till": Role(till, {PutIn: identity}),
        **{service.name: Role(service, {WasPutIn: identity}) for service in listeners},
    }


class Stage:
    """Broker, databases and workers of the toy service. Create it inside a running loop, and `open` it first."""

    def __init__(self, seed: int = 1, limits: Limits | None = None) -> None:
        self.broker = MemoryBroker()
        self.databases = {name: MemoryDatabase() for name in roles()}
        self.environment = seeded_environment(seed, asyncio.get_running_loop().time)
        self.limits = limits or Limits()
        self.topology = topology_of(PREFIX, roles().values())
        self.client = MemoryTransport(self.broker)
        self.published: list[Wire] = []
        self.broker.on_publish.append(lambda item: self.published.append(item.wire))
        self.tasks: dict[Worker, asyncio.Task[None]] = {}

    async def open(self) -> "Stage":
        await self.client.open()
        await self.client.declare(self.topology)
        return self

    def store(self, name: str) -> MemoryStore:
        return MemoryStore(self.databases[name])

    def transport(self) -> MemoryTransport:
        return MemoryTransport(self.broker)

    def worker(self, name: str, *, transport: Transport | None = None, store: Store | None = None, **options: Any) -> Worker:
        """Return a worker with the stage's transport and store, or the given ones; not started."""
        return Worker(
            roles()[name],
            self.topology,
            transport or self.transport(),
            store or self.store(name),
            environment=self.environment,
            limits=options.pop("limits", self.limits),
            **options,
        )

    def start(self, *workers: Worker) -> None:
        for worker in workers:
            self.tasks[worker] = asyncio.create_task(worker.run(), name=worker.role.worker)

    def start_all(self) -> None:
        self.start(*(self.worker(name) for name in roles()))

    async def stop(self, worker: Worker) -> None:
        worker.stop()
        await self.tasks.pop(worker)
        await worker.transport.close()

    async def close(self) -> None:
        """Stop the running workers. The error of a failed worker was raised already, or expected."""
        for worker, task in list(self.tasks.items()):
            if task.done():
                self.tasks.pop(worker)
                task.cancelled() or task.exception()
            else:
                await self.stop(worker)

    # --- inputs -----------------------------------------------------------------------------------------------------------

    def wire(self, how: How = How.WELL, amount: int = 1, order_id: str | None = None) -> Wire:
        command = PutIn(order_id=order_id or self.environment.new_id(), amount=amount, how=how)
        return encode(command, message_id=self.environment.new_id(), now=self.environment.now(), app_id="tests", origin=Origin())

    async def send(self, *wires: Wire) -> None:
        """Publish messages to the till."""
        address = self.topology.address_of(PutIn)
        await self.client.publish([Outgoing(address, wire) for wire in wires])

    async def put_in(self, *how: How) -> list[str]:
        """Publish one message for each behaviour; return the order ids."""
        wires = [self.wire(each) for each in how]
        await self.send(*wires)
        return [str(wire.correlation_id) for wire in wires]

    # --- results ----------------------------------------------------------------------------------------------------------

    async def rest(self, timeout_s: float = 120.0) -> None:
        """Wait until all workers are idle, no message is unfinished, no outbox row is pending and no timer is set."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        while not self._is_quiet():
            self._raise_what_failed()
            assert loop.time() < deadline, f"timed out after {timeout_s} s while waiting until all is quiet"
            await asyncio.sleep(0.05)

    def _is_quiet(self) -> bool:
        pending_outbox = any(database.outbox or any(database.due_index.values()) for database in self.databases.values())
        return not pending_outbox and self.broker.unfinished() == 0 and all(worker.idle for worker in self.tasks)

    def _raise_what_failed(self) -> None:
        for task in self.tasks.values():
            if task.done():
                task.result()

    async def until(self, condition: Callable[[], bool], what: str, timeout_s: float = 60.0) -> None:
        """Check `condition` at every turn of the event loop until it holds; on virtual time also across pauses."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        turns = 0
        while not condition():
            self._raise_what_failed()
            assert loop.time() < deadline, f"timed out after {timeout_s} s while waiting until {what}"
            turns += 1
            await asyncio.sleep(0 if turns % 50 else 0.005)

    async def tills(self) -> dict[str, Till]:
        return {record.document_id: Till.from_body(record.body) for record in await self.store("till").find("tills")}

    async def entries(self, name: str) -> dict[str, Entry]:
        return {record.document_id: Entry.from_body(record.body) for record in await self.store(name).find("entries")}

    async def times(self, name: str) -> dict[int, int]:
        """Return number of effects -> number of orders at one worker; {1: n} means exactly once for n orders."""
        documents: Sequence[Till | Entry] = list((await (self.tills() if name == "till" else self.entries(name))).values())
        return dict(Counter(document.times for document in documents))

    def dead(self, name: str) -> list[tuple[object, object]]:
        """Return reason and attempts of each dead letter."""
        wires = self.broker.dead_letters(name)
        return [(wire.headers.get("dead_reason"), wire.headers.get("attempts")) for wire in wires]

    async def waiting(self, name: str) -> int:
        return await self.client.depth(queue_of(PREFIX, name))

    def dead_queue(self, name: str) -> str:
        return dead_queue(queue_of(PREFIX, name))


def type_names(wires: Iterable[Wire]) -> Counter[str]:
    return Counter(str(wire.type) for wire in wires)


def run_scenario(scenario: Callable[[Stage], Awaitable[None]], limits: Limits | None = None) -> None:
    """Run a scenario on virtual time."""

    async def play() -> None:
        stage = await Stage(limits=limits).open()
        try:
            await scenario(stage)
        finally:
            await stage.close()

    run_on_virtual_time(play())
