"""The faults of a plan, as they strike the world of a simulated run: kills, stops, cuts, freezes, servers that go away.

`SimulatedCluster` calls `run_faults` when the time of a fault has come; the faults of an occasion (a lost confirm, say) act in the ports.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from broker.memory.broker import MemoryBroker
from broker.topology import Topology, queue_of
from broker.worker import Worker
from lab.simulation.history import SimulationHistory
from lab.simulation.plan import Fault, FaultKind
from lab.simulation.ports import SimulatedTransport
from lab.simulation.process import SimulatedProcess

#: How long the broker believes in a connection whose process stands still.
HEARTBEAT_TIMEOUT_S = 1.5
#: How long a worker that is told to stop may take, in seconds; everything it waits for then heals sooner.
STOP_TIMEOUT_S = 10.0
#: What the payment gateway is called among the servers that may be down.
GATEWAY = "gateway"


@dataclass(slots=True)
class WorkerInstance:
    """A worker that is up."""

    process: SimulatedProcess
    worker: Worker
    transport: SimulatedTransport
    task: "asyncio.Task[None]"


@dataclass(frozen=True, slots=True)
class SimulatedNemesis:
    """Strikes one world. `down` is the world's set of servers that do not answer, `withdraw` sends a customer's withdrawal of an
    order by its number."""

    history: SimulationHistory
    broker: MemoryBroker
    topology: Topology
    instances: Mapping[str, WorkerInstance]
    down: set[str]
    withdraw: Callable[[int], None]

    def strike(self, fault: Fault) -> None:
        """A fault whose time has come."""
        self.history.on_fault(fault)
        on_worker: dict[FaultKind, Callable[[WorkerInstance, float], None]] = {
            FaultKind.KILL: self._kill,
            FaultKind.STOP: self._stop,
            FaultKind.CUT: self._cut,
            FaultKind.FREEZE: self._freeze,
        }
        elsewhere: dict[FaultKind, Callable[[Fault], None]] = {
            FaultKind.WITHDRAWAL: lambda fault: self.withdraw(fault.nth),
            FaultKind.BROKER_DOWN: lambda fault: self._temporarily(fault.for_s, self.broker.stop, self.broker.start),
            FaultKind.GATEWAY_DOWN: lambda fault: self._take_down(GATEWAY, fault.for_s),
            FaultKind.STORE_DOWN: lambda fault: self._take_down(fault.where, fault.for_s),
            FaultKind.BINDING_LOST: self._unbind,
        }
        if fault.kind in elsewhere:
            elsewhere[fault.kind](fault)
        elif instance := self.instances.get(fault.where):  # otherwise it is dead already
            on_worker[fault.kind](instance, fault.for_s)

    def _take_down(self, server: str, seconds: float) -> None:
        self._temporarily(seconds, lambda: self.down.add(server), lambda: self.down.discard(server))

    def _unbind(self, fault: Fault) -> None:
        queue = self.broker.queue(queue_of(self.topology.prefix, fault.where))
        self._temporarily(fault.for_s, lambda: self.broker.unbind(queue), lambda: self.broker.declare(self.topology))

    def _cut(self, instance: WorkerInstance, seconds: float) -> None:
        self._temporarily(seconds, instance.transport.inner.cut, instance.transport.inner.restore)

    def _temporarily(self, seconds: float, begin: Callable[[], Any], end: Callable[[], Any]) -> None:
        begin()
        asyncio.get_running_loop().call_later(seconds, end)

    def _freeze(self, instance: WorkerInstance, seconds: float) -> None:
        """It stands still; the broker gives it up after missed heartbeats, and it connects again when it wakes."""
        instance.process.freeze(seconds)
        if seconds > HEARTBEAT_TIMEOUT_S:
            loop = asyncio.get_running_loop()
            loop.call_later(HEARTBEAT_TIMEOUT_S, instance.transport.inner.cut)
            loop.call_later(seconds, instance.transport.inner.restore)

    def _stop(self, instance: WorkerInstance, _: float = 0.0) -> None:
        """SIGTERM: it has to end by itself, soon."""
        self.history.add_trace(instance.process.name, "is told to stop")
        instance.worker.stop()
        asyncio.get_running_loop().call_later(STOP_TIMEOUT_S, self._check_stopped, instance)

    def _check_stopped(self, instance: WorkerInstance) -> None:
        if not instance.task.done():
            self.history.add_violation(
                "stops when told", f"{instance.process.name} runs on {STOP_TIMEOUT_S} s after it was told to stop"
            )

    def _kill(self, instance: WorkerInstance, _: float = 0.0) -> None:
        """Kill a process wherever it stands."""
        instance.process.alive = False
        instance.transport.inner.crash()
        instance.task.cancel()
        self.history.add_trace(instance.process.name, "is killed")
