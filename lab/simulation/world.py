"""The world of one run: the workers of a mode as killable processes, a broker and databases that fail, a door, and the faults.

Runs the product's own `Worker`, roles and rules; only the ports are the simulator's.
"""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from api.broker_client import Door
from api.sample_orders import order_of
from bootstrap.backend import PAYMENT
from bootstrap.build_worker import build_worker
from bootstrap.memory_backend import seeded_sources
from bootstrap.modes import Mode, roles
from broker.environment import Sources
from broker.limits import Limits
from broker.memory.transport import MemoryBroker, MemoryTransport
from broker.role import Role, topology_of
from broker.topology import Topology
from broker.transport import Outgoing, Receipt
from broker.worker import Worker
from lab.simulation import plan as plans
from lab.simulation.gateway import SimulatedGateway, WatchedStorage
from lab.simulation.history import History
from lab.simulation.nemesis import GATEWAY, STOPS_WITHIN_S, Nemesis, Process
from lab.simulation.plan import Kind, Plan
from lab.simulation.ports import SimulatedStore, SimulatedTransport
from lab.simulation.process import Life, Occasions
from lab.simulation.random_streams import Dice
from lab.virtual_time import EPOCH_S
from ops.dead_letters import requeue
from orchestrator.saga import SagaRun
from payment_gateway.books import Books
from services.inventory.domain import Stock
from services.order.domain import Order
from services.order.messages import PlaceOrder, WithdrawOrder
from services.payment.domain import PaymentTimes
from services.registry import Times
from services.vocabulary import Reason
from store.document import Record
from store.memory import MemoryDatabase, MemoryStore

#: Business waits of the simulator, in seconds: shorter than the product's, in the same proportion.
TIMES = Times(deadline_s=12.0, payment=PaymentTimes(look_again_s=1.0, patience_s=4.0, insist_s=6.0))
LIMITS = Limits(batch_max=16, prefetch=32, watch_interval_s=0.5, relay_interval_s=1.0, relay_after_s=2.0, slow_s=0.3)
SETTLE_AFTER_S = 2.0
#: The pause before a worker that died is started again, in seconds: at least, at most.
RESTART_S = (0.05, 1.5)
#: The longest a message is normally on its way, in seconds.
TRAVEL_S = 0.03


@dataclass(slots=True)
class World:
    """Make it inside a running VirtualTimeLoop. `role_of` and `make_worker` are there for tests that plant a bug."""

    plan: Plan
    history: History
    role_of: Callable[[Mode, Times], Mapping[str, Role]] = roles
    make_worker: Callable[..., Worker] = Worker
    occasions: Occasions = field(init=False)
    storage: WatchedStorage = field(init=False)
    bank: Books = field(init=False)
    processes: dict[str, Process] = field(default_factory=dict)
    databases: dict[str, MemoryDatabase] = field(default_factory=dict)
    order_ids: dict[int, str] = field(default_factory=dict)
    broker: MemoryBroker = field(init=False)
    door: Door = field(init=False)
    _topology: Topology = field(init=False)
    _roles: Mapping[str, Role] = field(init=False)
    _dice: Dice = field(init=False)
    _nemesis: Nemesis = field(init=False)
    _sources: Sources = field(init=False)
    #: The servers that do not answer: databases by their worker, and the gateway.
    _down: set[str] = field(default_factory=set)
    _skew: dict[str, float] = field(default_factory=dict)
    _lives: int = 0
    _messages: int = 0
    _closing: bool = False
    _tasks: "list[asyncio.Task[None]]" = field(default_factory=list)

    def __post_init__(self) -> None:
        plan = self.plan
        self.occasions = Occasions(plan, self.history)
        self._dice = Dice(plan.seed, "world")
        self._sources = seeded_sources(plan.seed, asyncio.get_running_loop().time)
        self._roles = self.role_of(plan.mode, TIMES)
        self.storage = WatchedStorage(self.history)
        self.bank = Books(self.storage, now=self._sources.now, faults=True, settle_after_s=SETTLE_AFTER_S, slow_s=0.5)
        self.broker = MemoryBroker(self._choose, self._travel)
        self._topology = topology_of(plan.mode, self._roles.values())
        self.broker.on_publish.append(
            lambda outgoing: self.history.arrived(outgoing, aside=self._topology.is_aside(outgoing.address))
        )
        self.databases = {name: MemoryDatabase() for name in self._roles}
        self._nemesis = Nemesis(self.history, self.broker, self._topology, self.processes, self._down, self._withdraw)

    # --- the run ------------------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Shelf, broker, door, every worker."""
        furniture = self._topology
        transport = MemoryTransport(self.broker)
        await transport.open()
        await transport.declare(furniture)
        self.door = Door(transport, furniture, self._sources)
        articles = [Stock(sku=sku).receive(quantity) for sku, quantity in self.plan.shelf.items()]
        await MemoryStore(self.databases["inventory"]).put(
            [Record(Stock.collection, article.sku, 1, article.to_body()) for article in articles]
        )
        for fault in self.plan.of(Kind.SKEW):
            self._skew[fault.where] = fault.for_s
            self.history.injected(fault)
        for worker in self._roles:
            for replica in range(1, self.plan.replicas + 1):
                self._start(worker, worker if replica == 1 else f"{worker}.{replica}")

    async def strike(self) -> None:
        """Place the orders and let the faults happen, each at its time; ends when the time of faults is over."""
        for order in self.plan.orders:
            order_id = self.order_ids[order.number] = self._sources.new_id()
            self.history.name(order_id, f"order {order.number}")
        moments: list[tuple[float, Callable[[], Any]]] = []
        moments += [(order.at_s, lambda order=order: self._place(order)) for order in self.plan.orders]  # type: ignore[misc]
        moments += [(fault.at_s, lambda fault=fault: self._nemesis.strike(fault)) for fault in self.plan.faults if fault.at_s]  # type: ignore[misc]
        for at_s, happen in sorted(moments, key=lambda moment: moment[0]):
            await asyncio.sleep(max(0.0, EPOCH_S + at_s - asyncio.get_running_loop().time()))
            self._raise_what_failed()
            happen()
        await asyncio.sleep(max(0.0, EPOCH_S + self.plan.until_s - asyncio.get_running_loop().time()))

    def heal(self) -> None:
        """From now on nothing goes wrong any more."""
        self.history.note("world", "heals")
        self.occasions.over = True
        self._down.clear()
        self._skew.clear()
        if not self.broker.running:
            self.broker.start()
        self.broker.declare(self.door.topology)
        for process in self.processes.values():
            process.life.freeze(0)
            process.transport.inner.restore()

    async def at_rest(self, patience_s: float, *, stuck_may_wait: bool) -> bool:
        """Wait until nothing moves any more; False if that does not happen in time. `stuck_may_wait`: orders that need attention
        count as at rest."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + patience_s
        quiet = 0
        while quiet < 2:
            self._raise_what_failed()
            if loop.time() > deadline:
                return False
            quiet = quiet + 1 if self._is_quiet(self.stuck() if stuck_may_wait else set()) else 0
            await asyncio.sleep(0.25)
        return True

    async def close(self) -> None:
        self._closing = True
        for process in list(self.processes.values()):
            process.worker.stop()
        pending = [process.task for process in self.processes.values()]
        if pending:
            await asyncio.wait(pending, timeout=STOPS_WITHIN_S)
        for process in self.processes.values():
            process.life.alive = False  # whoever has not ended by now dies at its next step
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*pending, *self._tasks, return_exceptions=True)

    def _is_quiet(self, excused: Collection[str]) -> bool:
        if self.broker.unfinished() or len(self.processes) < len(self._roles) * self.plan.replicas:
            return False
        if not all(process.worker.idle for process in self.processes.values()):
            return False
        if any(database.outbox for database in self.databases.values()):
            return False
        waiting = {order_id for database in self.databases.values() for waits in database.waiting.values() for order_id in waits}
        return waiting <= set(excused)

    def stuck(self) -> set[str]:
        """The orders that say they need attention, and have not ended."""
        return {
            order_id
            for collection in (Order.collection, SagaRun.collection)
            for order_id in self.order_ids.values()
            if (states := self.history.states.get((collection, order_id))) and states[-1].get("attention")
        }

    async def redrive(self, order_ids: Collection[str]) -> None:
        """Somebody has seen to what failed: the dead letters of these orders go back to work."""
        self.history.note("world", "redrives what is stuck")
        for worker in self._roles:
            transport = MemoryTransport(self.broker)
            await transport.open()
            await requeue(transport, self.door.topology, worker, lambda letter: letter.order_id in order_ids)
            await transport.close()

    def _raise_what_failed(self) -> None:
        """A worker that ended by anything but a kill has a bug."""
        for task in self._tasks:
            if task.done() and not task.cancelled() and (error := task.exception()):
                raise error

    def now(self) -> float:
        """The time that a clock shows which is right."""
        return self._sources.now()

    # --- processes ----------------------------------------------------------------------------------------------------------

    def _start(self, worker: str, name: str) -> None:
        self._lives += 1
        life = Life(name, worker, Dice(self.plan.seed, "life", self._lives), self.occasions, self.history)
        transport = SimulatedTransport(MemoryTransport(self.broker, reconnect_patience_s=0.5), life, self._topology)
        store = SimulatedStore(MemoryStore(self.databases[worker]), life, lambda: worker in self._down)
        gateway = SimulatedGateway(self.bank, self.plan.mode, life, lambda: GATEWAY in self._down)
        sources = Sources(lambda: self._sources.now() + self._skew.get(worker, 0.0), self._sources.new_id, self._sources.chance)
        product = build_worker(
            *(self.plan.mode, worker, transport, store),
            times=TIMES,
            roles_of=self.role_of,
            environment=sources,
            limits=LIMITS,
            gateway=gateway if worker == PAYMENT else None,
            make=self.make_worker,
            faults=True,
            die=life.die,
        )
        task = asyncio.create_task(product.run(), name=name)
        self.processes[name] = Process(life, product, transport, task)
        self._tasks.append(asyncio.create_task(self._supervise(name), name=f"supervisor of {name}"))

    async def _supervise(self, name: str) -> None:
        """Wait for the end of a process. If it was killed, start another in its place, as an operating system would."""
        process = self.processes[name]
        try:
            await asyncio.wait([process.task])
            error = None if process.task.cancelled() else process.task.exception()
            if process.life.alive and error:
                raise error
        finally:
            self.processes.pop(name, None)
        if self._closing:
            return
        process.transport.inner.crash()
        again_s = self._dice.between(*RESTART_S, "restart", self._lives) if not self.occasions.over else 0.1
        await asyncio.sleep(again_s)
        self.history.note(name, "starts again")
        self._start(process.life.worker, name)

    # --- what happens -------------------------------------------------------------------------------------------------------

    def _place(self, order: plans.Order) -> None:
        failures = [fault for fault in self.plan.of(Kind.BUSINESS) if fault.nth == order.number]
        for fault in failures:
            self.history.injected(fault)
        command = PlaceOrder(order_id=self.order_ids[order.number], details=order_of(order.lines))
        self._send(self.door.outgoing(command, [fault.where for fault in failures]))

    def _withdraw(self, number: int) -> None:
        self._send(self.door.outgoing(WithdrawOrder(order_id=self.order_ids[number], reason=Reason.WITHDRAWN), ()))

    def _send(self, outgoing: Outgoing) -> None:
        """The door's message reaches the broker, sooner or later: somebody who gets no confirm asks again."""
        self._tasks.append(asyncio.create_task(self._insist(outgoing), name="door"))

    async def _insist(self, outgoing: Outgoing) -> None:
        while not (self.broker.running and self.broker.publish(outgoing) is Receipt.CONFIRMED):  # noqa: ASYNC110 - the time that a customer takes to try again
            await asyncio.sleep(0.2)
        self.history.note("door", f"has sent {self.history.about(outgoing.wire)}")

    # --- the network --------------------------------------------------------------------------------------------------------

    def _choose(self, waiting: int) -> int:
        """Which of the waiting messages goes next."""
        self._messages += 1
        return self._dice.number(waiting, "next", self._messages) if waiting > 1 else 0

    def _travel(self, outgoing: Outgoing) -> Sequence[float]:
        """When a message arrives, and whether it does so twice."""
        self.history.routed.add(str(outgoing.wire.message_id))
        self._messages += 1
        first_s = self._dice.between(0, TRAVEL_S, "travel", self._messages)
        late = self.occasions.strikes(Kind.DELAY)
        again = self.occasions.strikes(Kind.DUPLICATE)
        arrivals = [first_s + late.for_s if late else first_s]
        return [*arrivals, first_s + again.for_s] if again else arrivals
