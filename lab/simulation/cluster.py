"""The simulated cluster: the workers of a mode as killable processes, a broker and databases that fail, and a customer.

It runs the product's `Worker`, roles and gateway rules; the ports, the environment's clock and the network are simulated.
"""

import asyncio
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from api.broker_client import BrokerOrderClient
from api.sample_orders import sample_order
from bootstrap.build_worker import build_worker
from bootstrap.memory_backend import seeded_environment
from bootstrap.modes import Mode, roles
from broker.environment import Environment
from broker.limits import Limits
from broker.memory.transport import MemoryBroker, MemoryTransport
from broker.role import Role, topology_of
from broker.topology import Topology
from broker.transport import Outgoing, Receipt
from broker.worker import Worker
from lab.simulation.gateway import RecordingStorage, SimulatedGateway
from lab.simulation.history import SimulationHistory
from lab.simulation.nemesis import GATEWAY, STOP_TIMEOUT_S, SimulatedNemesis, WorkerInstance
from lab.simulation.plan import FaultKind, PlannedOrder, SimulationPlan
from lab.simulation.ports import SimulatedNetwork, SimulatedStore, SimulatedTransport
from lab.simulation.process import FaultTriggers, SimulatedProcess
from lab.simulation.random_streams import Draw, RandomStreams, Stream
from lab.virtual_time import EPOCH_S
from ops.dead_letters import requeue
from orchestrator.saga import SagaRun
from payment_gateway.books import Books
from services.inventory.domain import Stock
from services.message_types import PAYMENT
from services.order.domain import Order
from services.order.messages import PlaceOrder, WithdrawOrder
from services.payment.domain import PaymentTimeouts
from services.timeouts import Timeouts
from services.vocabulary import Reason
from store.document import Record
from store.memory import MemoryDatabase, MemoryStore

#: The simulator's business timeouts and loop limits.
TIMEOUTS = Timeouts(deadline_s=12.0, payment=PaymentTimeouts(poll_interval_s=1.0, authorize_timeout_s=4.0, escalate_after_s=6.0))
LIMITS = Limits(batch_max=16, prefetch=32, timer_interval_s=0.5, relay_interval_s=1.0, relay_after_s=2.0, slow_s=0.3)
#: After how many seconds a pending payment settles.
SETTLE_AFTER_S = 2.0
#: The least and the most seconds before a killed worker is restarted. Bounds of a draw, frozen.
RESTART_DELAY_S = (0.05, 1.5)


@dataclass(slots=True)
class SimulatedCluster:
    """The cluster of one run. Create it inside a running VirtualTimeLoop. `make_roles` and `make_worker`: for tests that plant a
    bug."""

    plan: SimulationPlan
    history: SimulationHistory
    make_roles: Callable[[Mode, Timeouts], Mapping[str, Role]] = roles
    make_worker: Callable[..., Worker] = Worker
    fault_triggers: FaultTriggers = field(init=False)
    storage: RecordingStorage = field(init=False)
    payment_books: Books = field(init=False)
    instances: dict[str, WorkerInstance] = field(default_factory=dict)
    databases: dict[str, MemoryDatabase] = field(default_factory=dict)
    order_ids: dict[int, str] = field(default_factory=dict)
    broker: MemoryBroker = field(init=False)
    client: BrokerOrderClient = field(init=False)
    _topology: Topology = field(init=False)
    _roles: Mapping[str, Role] = field(init=False)
    _streams: RandomStreams = field(init=False)
    _nemesis: SimulatedNemesis = field(init=False)
    _environment: Environment = field(init=False)
    #: The servers that do not answer: databases by the name of their worker, and GATEWAY.
    _down: set[str] = field(default_factory=set)
    _clock_skew_s: dict[str, float] = field(default_factory=dict)
    _starts: int = 0
    _closing: bool = False
    _tasks: "list[asyncio.Task[None]]" = field(default_factory=list)

    def __post_init__(self) -> None:
        plan = self.plan
        self.fault_triggers = FaultTriggers(plan, self.history)
        self._streams = RandomStreams(plan.seed, Stream.CLUSTER)
        self._environment = seeded_environment(plan.seed, asyncio.get_running_loop().time)
        self._roles = self.make_roles(plan.mode, TIMEOUTS)
        self.storage = RecordingStorage(self.history)
        self.payment_books = Books(
            self.storage, now=self._environment.now, faults=True, settle_after_s=SETTLE_AFTER_S, slow_s=0.5
        )
        network = SimulatedNetwork(self._streams, self.fault_triggers, self.history)
        self.broker = MemoryBroker(network.choose, network.transfer_delays)
        self._topology = topology_of(plan.mode, self._roles.values())
        self.broker.on_publish.append(
            lambda outgoing: self.history.on_arrival(
                outgoing, is_retry_copy=self._topology.is_retry_or_dead_letter(outgoing.address)
            )
        )
        self.databases = {name: MemoryDatabase() for name in self._roles}
        self._nemesis = SimulatedNemesis(self.history, self.broker, self._topology, self.instances, self._down, self._withdraw)

    # --- the run ------------------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Declare the topology, set up the stock, start every worker."""
        transport = MemoryTransport(self.broker)
        await transport.open()
        await transport.declare(self._topology)
        self.client = BrokerOrderClient(transport, self._topology, self._environment)
        articles = [Stock(sku=sku).receive(quantity) for sku, quantity in self.plan.stock.items()]
        await MemoryStore(self.databases["inventory"]).put(
            [Record(Stock.collection, article.sku, 1, article.to_body()) for article in articles]
        )
        for fault in self.plan.faults_of(FaultKind.CLOCK_SKEW):
            self._clock_skew_s[fault.where] = fault.for_s
            self.history.on_fault(fault)
        for worker in self._roles:
            for replica in range(1, self.plan.replicas + 1):
                self._start(worker, worker if replica == 1 else f"{worker}.{replica}")  # part of draw names: frozen

    async def run_faults(self) -> None:
        """Place the orders and inject the faults, each at its time, until the plan's `until_s`."""
        for order in self.plan.orders:
            order_id = self.order_ids[order.number] = self._environment.new_id()
            self.history.set_label(order_id, f"order {order.number}")
        schedule: list[tuple[float, Callable[[], Any]]] = []
        schedule += [(order.at_s, lambda order=order: self._place(order)) for order in self.plan.orders]  # type: ignore[misc]
        schedule += [(fault.at_s, lambda fault=fault: self._nemesis.strike(fault)) for fault in self.plan.faults if fault.at_s]  # type: ignore[misc]
        for at_s, action in sorted(schedule, key=lambda entry: entry[0]):
            await asyncio.sleep(max(0.0, EPOCH_S + at_s - asyncio.get_running_loop().time()))
            self._raise_worker_error()
            action()
        await asyncio.sleep(max(0.0, EPOCH_S + self.plan.until_s - asyncio.get_running_loop().time()))

    def heal(self) -> None:
        """End all faults: restore servers, clocks, bindings and connections, and trigger no more."""
        self.history.add_trace("cluster", "ends all faults")
        self.fault_triggers.disabled = True
        self._down.clear()
        self._clock_skew_s.clear()
        if not self.broker.running:
            self.broker.start()
        self.broker.declare(self.client.topology)
        for instance in self.instances.values():
            instance.process.freeze(0)
            instance.transport.inner.restore()

    async def wait_until_idle(self, timeout_s: float, *, ignore_attention: bool) -> bool:
        """Wait until no message, outbox row or timer is left; False if that takes longer than `timeout_s`. `ignore_attention`:
        timers of orders that need attention do not count."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        idle_rounds = 0
        while idle_rounds < 2:
            self._raise_worker_error()
            if loop.time() > deadline:
                return False
            idle_rounds = idle_rounds + 1 if self._is_idle(self.orders_needing_attention() if ignore_attention else set()) else 0
            await asyncio.sleep(0.25)
        return True

    async def close(self) -> None:
        """Shut down the workers; kill those that do not end in time."""
        self._closing = True
        for instance in list(self.instances.values()):
            instance.worker.stop()
        pending = [instance.task for instance in self.instances.values()]
        if pending:
            await asyncio.wait(pending, timeout=STOP_TIMEOUT_S)
        for instance in self.instances.values():
            instance.process.alive = False  # a process that has not ended by now is killed at its next step
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*pending, *self._tasks, return_exceptions=True)

    def _is_idle(self, ignored: Collection[str]) -> bool:
        if self.broker.unfinished() or len(self.instances) < len(self._roles) * self.plan.replicas:
            return False
        if not all(instance.worker.idle for instance in self.instances.values()):
            return False
        if any(database.outbox for database in self.databases.values()):
            return False
        timers = {order_id for database in self.databases.values() for due in database.due_index.values() for order_id in due}
        return timers <= set(ignored)

    def orders_needing_attention(self) -> set[str]:
        """The ids of the orders that are marked as needing attention in their newest state."""
        return {
            order_id
            for collection in (Order.collection, SagaRun.collection)
            for order_id in self.order_ids.values()
            if (states := self.history.states.get((collection, order_id))) and states[-1].get("attention")
        }

    async def redrive(self, order_ids: Collection[str]) -> None:
        """Requeue the dead letters of these orders, as an operator does after mending the cause."""
        self.history.add_trace("cluster", "redrives dead letters")
        for worker in self._roles:
            transport = MemoryTransport(self.broker)
            await transport.open()
            await requeue(transport, self.client.topology, worker, lambda letter: letter.order_id in order_ids)
            await transport.close()

    def _raise_worker_error(self) -> None:
        """Raise the error of a worker that ended by anything but a kill: it has a bug."""
        for task in self._tasks:
            if task.done() and not task.cancelled() and (error := task.exception()):
                raise error

    def now(self) -> float:
        """The time without clock skew, in seconds since the epoch."""
        return self._environment.now()

    # --- processes ----------------------------------------------------------------------------------------------------------

    def _start(self, worker: str, name: str) -> None:
        self._starts += 1
        process = SimulatedProcess(
            name, worker, RandomStreams(self.plan.seed, Stream.PROCESS, self._starts), self.fault_triggers, self.history
        )
        transport = SimulatedTransport(MemoryTransport(self.broker, reconnect_timeout_s=0.5), process, self._topology)
        store = SimulatedStore(MemoryStore(self.databases[worker]), process, lambda: worker in self._down)
        gateway = SimulatedGateway(self.payment_books, self.plan.mode, process, lambda: GATEWAY in self._down)
        environment = Environment(
            lambda: self._environment.now() + self._clock_skew_s.get(worker, 0.0), self._environment.new_id, self._environment.rng
        )
        worker_object = build_worker(
            *(self.plan.mode, worker, transport, store),
            timeouts=TIMEOUTS,
            roles_of=self.make_roles,
            environment=environment,
            limits=LIMITS,
            gateway=gateway if worker == PAYMENT else None,
            make=self.make_worker,
            faults=True,
            crash=process.die,
        )
        task = asyncio.create_task(worker_object.run(), name=name)
        self.instances[name] = WorkerInstance(process, worker_object, transport, task)
        self._tasks.append(asyncio.create_task(self._supervise(name), name=f"supervisor of {name}"))

    async def _supervise(self, name: str) -> None:
        """Wait for the end of a process, then start another in its place. Raises the error of a worker that was not killed."""
        instance = self.instances[name]
        try:
            await asyncio.wait([instance.task])
            error = None if instance.task.cancelled() else instance.task.exception()
            if instance.process.alive and error:
                raise error
        finally:
            self.instances.pop(name, None)
        if self._closing:
            return
        instance.transport.inner.crash()
        restart_delay_s = (
            self._streams.uniform(*RESTART_DELAY_S, Draw.RESTART_DELAY, self._starts) if not self.fault_triggers.disabled else 0.1
        )
        await asyncio.sleep(restart_delay_s)
        self.history.add_trace(name, "restarts")
        self._start(instance.process.worker, name)

    # --- the customer -------------------------------------------------------------------------------------------------------

    def _place(self, order: PlannedOrder) -> None:
        failures = [fault for fault in self.plan.faults_of(FaultKind.BUSINESS) if fault.nth == order.number]
        for fault in failures:
            self.history.on_fault(fault)
        command = PlaceOrder(order_id=self.order_ids[order.number], details=sample_order(order.lines))
        self._send(self.client.outgoing(command, [fault.where for fault in failures]))

    def _withdraw(self, number: int) -> None:
        self._send(self.client.outgoing(WithdrawOrder(order_id=self.order_ids[number], reason=Reason.WITHDRAWN), ()))

    def _send(self, outgoing: Outgoing) -> None:
        """Publish a command in the background, repeated until the broker confirms it."""
        self._tasks.append(asyncio.create_task(self._publish_until_confirmed(outgoing), name="client"))

    async def _publish_until_confirmed(self, outgoing: Outgoing) -> None:
        while not (self.broker.running and self.broker.publish(outgoing) is Receipt.CONFIRMED):  # noqa: ASYNC110 - the pause before a customer tries again
            await asyncio.sleep(0.2)
        self.history.add_trace("api", f"sends {self.history.describe(outgoing.wire)}")
