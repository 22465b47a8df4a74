"""One run: a storm with faults beside it, then heal, drain, judge.

The customers come in through the proxy, as workers do; the instruments that judge go straight to the servers.
"""

import asyncio
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

from api.broker_client import Door
from api.sample_orders import SKUS
from bootstrap.modes import Mode, roles, topology
from bootstrap.server_backend import ConnectedParts
from broker.rabbitmq.transport import RabbitTransport
from broker.transport import Transport, TransportError
from lab.chaos.cluster import Spawn, Stage
from lab.chaos.nemesis import Injector
from lab.chaos.schedule import BROKER, Fault, draw
from lab.chaos.traffic import Customers
from lab.chaos.verdict import Remains, Verdict, judge
from ops.dead_letters import dead_letters
from ops.snapshot import Snapshot, snapshot
from ops.stock import top_up
from services.order.domain import Order, OrderState
from services.payment.domain import Payment
from store.protocol import Store, StoreError

#: How long everything may take to end once it has healed. Longer than an order's deadline and the way back.
DRAIN_S = 45.0
QUIET_S = 0.5
#: How long the customers wait for a confirm before they send again.
CONFIRM_S = 3.0
#: Units of each article, enough for any run: refusals for lack of stock are those that were asked for.
STOCK = 1_000_000


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
    _stores: dict[str, Store] = field(default_factory=dict)
    _stage: Stage = field(init=False)
    _direct: ConnectedParts = field(init=False)
    _instrument: Transport = field(init=False)

    async def run(self) -> Report:
        """Raises NotInstalled, DidNotStart."""
        plan = self.plan
        self.tell("starting servers and workers", 0.0)
        self._stage = stage = Stage(plan.mode, self.home, self.spawn, full_disk=plan.full_disk, skewed=plan.skewed)
        async with stage.set_up(), AsyncExitStack() as stack:
            customers = await self._open_shop(stack)
            injector = Injector(stage.processes, stage.proxies, stage.disks)
            await self._storm(customers, injector, draw(plan.seed, plan.seconds, list(roles(plan.mode)), list(stage.disks)))
            injector.heal()
            loop = asyncio.get_running_loop()
            healed_at = loop.time()
            seen = await self._drain(customers)
            evidence = stage.evidence
            remains = Remains(customers.accepted, seen, await self._dead(), evidence.effects, evidence.answers)
            return self._report(customers, injector, remains, loop.time() - healed_at)

    async def _open_shop(self, stack: AsyncExitStack) -> Customers:
        """Stock, the instruments, and the customers' own way in, which leads through the proxy."""
        servers, mode = self._stage.servers, self.plan.mode
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
        await self._instrument.subscribe(topology(mode), ["#"], self._stage.evidence.hear_event)
        transport = RabbitTransport(
            servers.broker_url(self._stage.proxies[BROKER].port), "customers", confirm_patience_s=CONFIRM_S
        )
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
                await self._stage.servers_are_back()
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
            for queue in topology(self.plan.mode).live_queues():
                if await self._instrument.depth(queue):
                    return False
            for store in self._stores.values():
                if await store.owed(math.inf, 1):
                    return False
            if await self._stores["order"].find(Order.collection, {"state": OrderState.PENDING.value}, 1):
                return False
            if await self._stores["payment"].due(Payment.collection, math.inf, 1):
                return False
            orders = await self._stores["order"].find(Order.collection)
            known = {record.document_id for record in orders if record.body["state"] != OrderState.TOMBSTONE}
        except (StoreError, TransportError):
            return False
        return customers.accepted <= known

    async def _dead(self) -> dict[str, str]:
        """Order -> why a message of it was given up."""
        with suppress(TransportError):
            found = await dead_letters(self._instrument, topology(self.plan.mode), list(roles(self.plan.mode)))
            return {str(letter.order_id): f"{letter.worker}: {letter.wire.type}, {letter.reason}" for letter in found}
        return {"?": "the dead letters cannot be read"}

    def _report(self, customers: Customers, injector: Injector, remains: Remains, drained_s: float) -> Report:
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
            restarts=sum(count - 1 for count in self._stage.evidence.starts.values()),
            drained_s=drained_s,
            verdict=judge(remains),
            notes=self._stage.notes,
        )
