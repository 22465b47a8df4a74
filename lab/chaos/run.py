"""One chaos run: traffic with faults, then heal, drain and judge.

The traffic goes through the proxy, as the workers' connections do. What judges the run connects directly to the servers.
"""

import asyncio
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

from api.broker_client import BrokerOrderClient
from api.sample_orders import SKUS
from bootstrap.modes import Mode, roles, topology
from bootstrap.server_backend import ServerBackend
from broker.rabbitmq.transport import RabbitTransport
from broker.transport import Transport, TransportError
from lab.chaos.cluster import Cluster, Spawn
from lab.chaos.nemesis import Nemesis
from lab.chaos.schedule import BROKER, ChaosFault, draw_faults
from lab.chaos.traffic import Traffic
from lab.chaos.verdict import ChaosVerdict, RunResult, evaluate_run
from ops.dead_letters import dead_letters
from ops.snapshot import Snapshot, take_snapshot
from ops.stock import top_up
from services.message_types import INVENTORY, ORDER, PAYMENT
from services.order.domain import Order, OrderState
from services.payment.domain import Payment
from store.protocol import Store, StoreError

#: Seconds everything may take to end after healing. Longer than an order's deadline and its compensations.
DRAIN_TIMEOUT_S = 45.0
POLL_INTERVAL_S = 0.5
#: Seconds the traffic waits for a confirm before it sends again.
CONFIRM_TIMEOUT_S = 3.0
#: Units of each article, enough for any run: `out_of_stock` occurs only where it is injected.
STOCK_UNITS = 1_000_000


@dataclass(frozen=True, slots=True)
class ChaosPlan:
    """The options of a run. `rate`: orders a second. `skew_commands`: worker -> a prefix of its command, such as `faketime`."""

    mode: Mode
    seconds: float
    seed: int
    rate: float
    full_disk: bool = False
    skew_commands: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ChaosReport:
    """The result of a run. `vacuous`: why the run proves nothing; empty when it proves something."""

    plan: ChaosPlan
    injected: Mapping[str, int]
    observed: Mapping[str, int]
    orders: int
    completed: int
    rejected: Mapping[str, int]
    withdrawals: int
    restarts: int
    drained_s: float
    verdict: ChaosVerdict
    notes: Sequence[str] = ()

    @property
    def vacuous(self) -> str:
        if not sum(self.observed.values()):
            return "no fault took effect"
        if not self.completed:
            return "no order was completed"
        return "" if self.rejected else "no order was rejected, so nothing was compensated"

    @property
    def ok(self) -> bool:
        return self.verdict.ok and not self.vacuous


@dataclass(slots=True)
class ChaosRun:
    """One run in the folder `home`. `on_progress(what, share)` is called with a text and the share of the run that is over."""

    plan: ChaosPlan
    home: Path
    spawn: Spawn
    on_progress: Callable[[str, float], None] = lambda _what, _share: None
    _stores: dict[str, Store] = field(default_factory=dict)
    _cluster: Cluster = field(init=False)
    _direct_backend: ServerBackend = field(init=False)
    _probe_transport: Transport = field(init=False)

    async def run(self) -> ChaosReport:
        """Run to the end and judge. Raises NotInstalled, StartFailed."""
        plan = self.plan
        self.on_progress("starting servers and workers", 0.0)
        self._cluster = cluster = Cluster(
            plan.mode, self.home, self.spawn, full_disk=plan.full_disk, skew_commands=plan.skew_commands
        )
        async with cluster.set_up(), AsyncExitStack() as stack:
            traffic = await self._start_traffic(stack)
            nemesis = Nemesis(cluster.processes, cluster.proxies, cluster.disks)
            await self._storm(traffic, nemesis, draw_faults(plan.seed, plan.seconds, list(roles(plan.mode)), list(cluster.disks)))
            nemesis.heal()
            loop = asyncio.get_running_loop()
            healed_at = loop.time()
            snapshot = await self._drain(traffic)
            evidence = cluster.evidence
            run_result = RunResult(
                traffic.accepted, snapshot, await self._dead_letter_reasons(), evidence.effects, evidence.answers
            )
            return self._report(traffic, nemesis, run_result, loop.time() - healed_at)

    async def _start_traffic(self, stack: AsyncExitStack) -> Traffic:
        """Fill the stock, connect what judges the run directly to the servers, and connect the traffic through the proxy."""
        servers, mode = self._cluster.servers, self.plan.mode
        self._direct_backend = ServerBackend(mode, servers.broker_url(), servers.store_url(), servers.gateway_url())
        for name in roles(mode):
            store = self._direct_backend.store(name)
            stack.push_async_callback(store.close)
            await store.open([])
            self._stores[name] = store
        await top_up(self._stores[INVENTORY], dict.fromkeys(SKUS, STOCK_UNITS))
        self._probe_transport = self._direct_backend.transport("probe")
        stack.push_async_callback(self._probe_transport.close)
        await self._probe_transport.open()
        await self._probe_transport.subscribe(topology(mode), ["#"], self._cluster.evidence.record_event)
        transport = RabbitTransport(
            servers.broker_url(self._cluster.proxies[BROKER].port), "customers", confirm_timeout_s=CONFIRM_TIMEOUT_S
        )
        stack.push_async_callback(transport.close)
        await transport.open()
        client = BrokerOrderClient(transport, topology(mode), self._direct_backend.environment)
        return Traffic(client, transport, self.plan.seed, self.plan.rate)

    # --- storm, heal, drain -------------------------------------------------------------------------------------------------

    async def _storm(self, traffic: Traffic, nemesis: Nemesis, faults: Sequence[ChaosFault]) -> None:
        async with asyncio.TaskGroup() as both:
            storm = both.create_task(traffic.run(self.plan.seconds), name="storm")
            both.create_task(nemesis.run(faults), name="faults")
            loop = asyncio.get_running_loop()
            started_at = loop.time()
            while not storm.done():
                injected_count = sum(nemesis.injected.values())
                share = min(1.0, (loop.time() - started_at) / self.plan.seconds)
                self.on_progress(f"{len(traffic.accepted)} orders accepted, {injected_count} faults injected", share)
                await asyncio.wait([storm], timeout=POLL_INTERVAL_S)

    async def _drain(self, traffic: Traffic) -> Snapshot:
        """Wait until everything has ended, at most DRAIN_TIMEOUT_S, then take a snapshot."""
        try:
            async with asyncio.timeout(DRAIN_TIMEOUT_S):
                await self._cluster.wait_for_servers()
                await traffic.send_remaining()
                while not await self._is_at_rest(traffic):
                    self.on_progress("waiting for every order to end", 1.0)
                    await asyncio.sleep(POLL_INTERVAL_S)
        except TimeoutError:
            pass  # the verdict names what has not ended
        return await take_snapshot(self._stores, await self._direct_backend.books())

    async def _is_at_rest(self, traffic: Traffic) -> bool:
        """Whether live queues and outboxes are empty, no order or payment is open, and every accepted order is known."""
        try:
            for queue in topology(self.plan.mode).live_queues():
                if await self._probe_transport.depth(queue):
                    return False
            for store in self._stores.values():
                if await store.pending_outbox(math.inf, 1):
                    return False
            if await self._stores[ORDER].find(Order.collection, {"state": OrderState.PENDING.value}, 1):
                return False
            if await self._stores[PAYMENT].due(Payment.collection, math.inf, 1):
                return False
            orders = await self._stores[ORDER].find(Order.collection)
            known = {record.document_id for record in orders if record.body["state"] != OrderState.TOMBSTONE}
        except (StoreError, TransportError):
            return False
        return traffic.accepted <= known

    async def _dead_letter_reasons(self) -> dict[str, str]:
        """Order id -> the reason why a message of it was dead-lettered."""
        with suppress(TransportError):
            found = await dead_letters(self._probe_transport, topology(self.plan.mode), list(roles(self.plan.mode)))
            return {str(letter.order_id): f"{letter.worker}: {letter.wire.type}, {letter.reason}" for letter in found}
        return {"?": "the dead letters cannot be read: the broker did not answer"}

    def _report(self, traffic: Traffic, nemesis: Nemesis, run_result: RunResult, drained_s: float) -> ChaosReport:
        mine = [order for order_id, order in run_result.snapshot.orders.items() if order_id in traffic.placed]
        rejected = Counter(str(order.reason) for order in mine if order.state is OrderState.REJECTED)
        return ChaosReport(
            plan=self.plan,
            injected=dict(sorted(nemesis.injected.items())),
            observed={name: nemesis.observed[name] for name in sorted(nemesis.injected)},
            orders=len(traffic.accepted),
            completed=sum(order.state is OrderState.COMPLETED for order in mine),
            rejected=dict(sorted(rejected.items())),
            withdrawals=traffic.withdrawals,
            restarts=sum(count - 1 for count in self._cluster.evidence.starts.values()),
            drained_s=drained_s,
            verdict=evaluate_run(run_result),
            notes=self._cluster.notes,
        )
