"""One run: private servers and the workers of a mode as processes, a storm with faults beside it, then heal, drain, judge.

Room: lab/chaos/. Whoever calls says how a process is kept running (`spawn`). Workers reach broker, database and gateway through
proxies; the instruments that judge go straight to them. Everything that was started is ended, whatever happens.
"""

import asyncio
import math
import signal
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from broker.rabbit import RabbitTransport
from broker.topology import queue_of
from broker.transport import TransportError
from lab.chaos.customers import Customers
from lab.chaos.disks import small_disk
from lab.chaos.evidence import Evidence
from lab.chaos.inject import Injector, Kept
from lab.chaos.judge import Remains, Verdict, judge
from lab.chaos.proxy import Proxy
from lab.chaos.schedule import BROKER, DATABASE, GATEWAY, LINKS, Fault, draw
from lab.chaos.servers import Recipe, Servers, many_open_files, until, worker_command
from lab.connected import ConnectedParts
from lab.dead_letters import dead_letters
from lab.door import Door
from lab.modes import Mode, roles, topology
from lab.shelf import top_up
from lab.snapshot import Snapshot, snapshot
from lab.storm import SKUS
from services.order.domain import Order, OrderState
from services.payment.domain import Payment
from store.store import Store, StoreError

#: How long a server or worker may take to serve.
START_S = 60.0
#: How long everything may take to end once it has healed. Longer than an order's deadline and the way back.
DRAIN_S = 45.0
QUIET_S = 0.5
#: How long the customers wait for a confirm before they send again.
CONFIRM_S = 3.0
#: Workers' waits: short, so that a run shows what they are for, and its orders end soon.
TIMES = {"SAGA_DEADLINE_S": "15", "SAGA_PATIENCE_S": "5", "SAGA_LOOK_AGAIN_S": "1", "SAGA_GATEWAY_TIMEOUT_S": "0.8"}
#: Units of each article, enough for any run: refusals for lack of stock are those that were asked for.
STOCK = 1_000_000


class DidNotStart(Exception):  # noqa: N818 - it names what happened
    """A server or worker does not come up; the message names its log."""


class Spawn(Protocol):
    """Makes a process that is kept running, not started yet. `hear` is given its name and each line."""

    def __call__(self, recipe: Recipe, hear: Callable[[str, bytes], None]) -> Kept: ...


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do. `rate`: orders a second. `skewed`: worker -> words before its command, such as `faketime` takes."""

    mode: Mode
    seconds: float
    seed: int
    rate: float
    full_disk: bool = False
    skewed: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Report:
    """What came of it. `vacuous`: why the run proves nothing; empty when it proves something."""

    plan: Plan
    injected: Mapping[str, int]
    observed: Mapping[str, int]
    orders: int
    completed: int
    rejected: Mapping[str, int]
    withdrawals: int
    restarts: int
    drained_s: float
    verdict: Verdict
    notes: Sequence[str] = ()

    @property
    def vacuous(self) -> str:
        if not sum(self.observed.values()):
            return "no fault was seen to act"
        if not self.completed:
            return "no order was completed"
        return "" if self.rejected else "nothing was rejected, so nothing had to be undone"

    @property
    def ok(self) -> bool:
        return self.verdict.ok and not self.vacuous


@dataclass(slots=True)
class Chaos:
    """One run in the folder `home`. `tell(what, share)` is called as it goes on."""

    plan: Plan
    home: Path
    spawn: Spawn
    tell: Callable[[str, float], None] = lambda _what, _share: None
    _servers: Servers = field(init=False)
    _evidence: Evidence = field(init=False)
    _recipes: Sequence[Recipe] = ()
    _processes: dict[str, Kept] = field(default_factory=dict)
    _proxies: dict[str, Proxy] = field(default_factory=dict)
    _stores: dict[str, Store] = field(default_factory=dict)
    _direct: ConnectedParts = field(init=False)
    _instrument: RabbitTransport = field(init=False)

    async def run(self) -> Report:
        """Raises NotInstalled, DidNotStart."""
        mode = self.plan.mode
        self._servers = Servers.in_folder(self.home)
        (self.home / "log").mkdir(parents=True, exist_ok=True)
        self._evidence = Evidence(self.home / "log")
        many_open_files()
        async with AsyncExitStack() as stack:
            disks, notes = await stack.enter_async_context(self._disks())
            stack.push_async_callback(self._end)
            await self._start(stack)
            customers = await self._open_shop(stack)
            injector = Injector(self._processes, self._proxies, disks)
            faults = draw(self.plan.seed, self.plan.seconds, list(roles(mode)), list(disks))
            await self._storm(customers, injector, faults)
            injector.heal()
            loop = asyncio.get_running_loop()
            healed_at = loop.time()
            seen = await self._drain(customers)
            dead = await self._dead()
            remains = Remains(customers.accepted, seen, dead, self._evidence.effects, self._evidence.answers)
            return self._report(customers, injector, remains, loop.time() - healed_at, notes)

    # --- starting and ending ------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _disks(self) -> AsyncIterator[tuple[dict[str, Path], list[str]]]:
        """The small disks, if they are wanted and possible, and what is to be said about them."""
        if not self.plan.full_disk:
            yield {}, []
            return
        async with small_disk(self._servers.folder_of(GATEWAY)) as why_not:
            yield ({}, [why_not]) if why_not else ({GATEWAY: self._servers.folder_of(GATEWAY)}, [])

    async def _start(self, stack: AsyncExitStack) -> None:
        """Servers, proxies, workers, in this order, each ready before the next."""
        servers, mode = self._servers, self.plan.mode
        self.tell("starting the servers", 0.0)
        self._recipes = servers.recipes(mode)
        for recipe in self._recipes:
            self._run(recipe)
            await self._until_ready(recipe)
        ports = {BROKER: servers.broker_port, DATABASE: servers.database_port, GATEWAY: servers.gateway_port}
        for name in LINKS:
            self._proxies[name] = await stack.enter_async_context(Proxy(ports[name]))
        self.tell("starting the workers", 0.0)
        env = {
            "SAGA_BROKER_URL": servers.broker_url(self._proxies[BROKER].port),
            "SAGA_STORE_URL": servers.store_url(self._proxies[DATABASE].port),
            "SAGA_GATEWAY_URL": servers.gateway_url(self._proxies[GATEWAY].port),
            "SAGA_LOG_LEVEL": "info",
            **TIMES,
        }
        for name in roles(mode):
            command = [*self.plan.skewed.get(name, ()), *worker_command(name, mode)]
            self._run(Recipe(name, command, env, grace_s=10.0))
        for name in roles(mode):
            await self._until(lambda: self._evidence.starts[name] > 0, name)  # noqa: B023 - awaited at once

    def _run(self, recipe: Recipe) -> None:
        process = self.spawn(recipe, self._evidence.hear_line)
        self._processes[recipe.name] = process
        process.start()

    async def _until_ready(self, recipe: Recipe) -> None:
        if recipe.ready is not None:
            await self._until(recipe.ready, recipe.name)

    async def _until(self, ready: Callable[[], bool | Awaitable[bool]], name: str) -> None:
        if not await until(ready, START_S):
            raise DidNotStart(f"{name} does not serve within {START_S:g} s; see {self.home / 'log' / name}.log")

    async def _end(self) -> None:
        """End every process: the workers in good order, then the servers they need."""
        self.tell("ending", 1.0)
        for process in self._processes.values():
            process.send(signal.SIGCONT)
        workers = [process for name, process in self._processes.items() if name in roles(self.plan.mode)]
        await asyncio.gather(*(process.end(10.0) for process in workers))
        for process in reversed([process for process in self._processes.values() if process not in workers]):
            await process.end(0.0)

    async def _open_shop(self, stack: AsyncExitStack) -> Customers:
        """Stock, the instruments, and the customers' own way in, which leads through the proxy."""
        servers, mode = self._servers, self.plan.mode
        self._direct = ConnectedParts(mode, servers.broker_url(), servers.store_url(), servers.gateway_url())
        for name in roles(mode):
            store = self._direct.store(name)
            stack.push_async_callback(store.close)
            await store.open([])
            self._stores[name] = store
        await top_up(self._stores["inventory"], dict.fromkeys(SKUS, STOCK))
        self._instrument = self._direct.transport("instrument")
        stack.push_async_callback(self._instrument.close)
        await self._instrument.open()
        await self._instrument.subscribe(topology(mode), ["#"], self._evidence.hear_event)
        transport = RabbitTransport(servers.broker_url(self._proxies[BROKER].port), "customers", confirm_patience_s=CONFIRM_S)
        stack.push_async_callback(transport.close)
        await transport.open()
        door = Door(transport, topology(mode), self._direct.sources)
        return Customers(door, transport, self.plan.seed, self.plan.rate)

    # --- storm, heal, drain -------------------------------------------------------------------------------------------------

    async def _storm(self, customers: Customers, injector: Injector, faults: Sequence[Fault]) -> None:
        async with asyncio.TaskGroup() as both:
            storm = both.create_task(customers.run(self.plan.seconds), name="storm")
            both.create_task(injector.run(faults), name="faults")
            loop = asyncio.get_running_loop()
            began = loop.time()
            while not storm.done():
                struck = sum(injector.injected.values())
                share = min(1.0, (loop.time() - began) / self.plan.seconds)
                self.tell(f"{len(customers.accepted)} orders taken, {struck} faults", share)
                await asyncio.wait([storm], timeout=QUIET_S)

    async def _drain(self, customers: Customers) -> Snapshot:
        """Wait until everything has ended, or long enough; then everything that is stored."""
        try:
            async with asyncio.timeout(DRAIN_S):
                for recipe in self._recipes:
                    await self._until_ready(recipe)
                await customers.finish()
                while not await self._at_rest(customers):
                    self.tell("waiting for every order to end", 1.0)
                    await asyncio.sleep(QUIET_S)
        except TimeoutError:
            pass  # the verdict says what has not ended
        return await snapshot(self._stores, await self._direct.books())

    async def _at_rest(self, customers: Customers) -> bool:
        """Nothing waits in a queue, no message is owed, no order or payment is open, every accepted order is known."""
        try:
            for name, store in self._stores.items():
                if await self._waits(name) or await store.owed(math.inf, 1):
                    return False
            if await self._stores["order"].find(Order.collection, {"state": OrderState.PENDING.value}, 1):
                return False
            if await self._stores["payment"].due(Payment.collection, math.inf, 1):
                return False
            known = {record.document_id for record in await self._stores["order"].find(Order.collection)}
        except (StoreError, TransportError):
            return False
        return customers.accepted <= known

    async def _waits(self, worker: str) -> bool:
        """Whether a message is in a worker's queue or in one of its delay queues."""
        work = queue_of(self.plan.mode, worker)
        names = [name for name in topology(self.plan.mode).queue_names() if name.startswith(work) and not name.endswith(".dead")]
        for name in names:
            if await self._instrument.depth(name):
                return True
        return False

    async def _dead(self) -> dict[str, str]:
        """Order -> why a message of it was given up."""
        with suppress(TransportError):
            found = await dead_letters(self._instrument, topology(self.plan.mode), list(roles(self.plan.mode)))
            return {str(letter.order_id): f"{letter.worker}: {letter.wire.type}, {letter.reason}" for letter in found}
        return {"?": "the dead letters cannot be read"}

    def _report(
        self, customers: Customers, injector: Injector, remains: Remains, drained_s: float, notes: Sequence[str]
    ) -> Report:
        mine = [order for order_id, order in remains.seen.orders.items() if order_id in customers.placed]
        rejected = Counter(str(order.reason) for order in mine if order.state is OrderState.REJECTED)
        return Report(
            plan=self.plan,
            injected=dict(sorted(injector.injected.items())),
            observed={name: injector.observed[name] for name in sorted(injector.injected)},
            orders=len(customers.accepted),
            completed=sum(order.state is OrderState.COMPLETED for order in mine),
            rejected=dict(sorted(rejected.items())),
            withdrawals=customers.withdrawals,
            restarts=sum(count - 1 for count in self._evidence.starts.values()),
            drained_s=drained_s,
            verdict=judge(remains),
            notes=notes,
        )
