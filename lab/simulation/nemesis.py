"""The timed faults of a simulated run: kills, shutdowns, cuts, freezes, servers that do not answer.

`SimulatedCluster.run_faults` calls `strike` when a fault is due. Faults that are triggered by an occurrence, such as a lost
confirm, are in the ports.
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

#: After how many seconds the broker closes the connection of a frozen process.
HEARTBEAT_TIMEOUT_S = 1.5
#: How long a worker may take to shut down, in seconds: longer than any planned outage.
STOP_TIMEOUT_S = 10.0
#: The payment gateway's name among the servers that are down.
GATEWAY = "gateway"


@dataclass(slots=True)
class WorkerInstance:
    """A running worker: its process, worker object, transport and task."""

    process: SimulatedProcess
    worker: Worker
    transport: SimulatedTransport
    task: "asyncio.Task[None]"


@dataclass(frozen=True, slots=True)
class SimulatedNemesis:
    """Injects the timed faults of one cluster. `down`: the cluster's set of servers that do not answer. `withdraw`: sends the
    customer's withdrawal of the order with this number."""

    history: SimulationHistory
    broker: MemoryBroker
    topology: Topology
    instances: Mapping[str, WorkerInstance]
    down: set[str]
    withdraw: Callable[[int], None]

    def strike(self, fault: Fault) -> None:
        """Inject a fault that is due."""
        self.history.on_fault(fault)
        on_worker: dict[FaultKind, Callable[[WorkerInstance, float], None]] = {
            FaultKind.KILL: self._kill,
            FaultKind.STOP: self._stop,
            FaultKind.CUT: self._cut,
            FaultKind.FREEZE: self._freeze,
        }
        without_worker: dict[FaultKind, Callable[[Fault], None]] = {
            FaultKind.WITHDRAWAL: lambda fault: self.withdraw(fault.nth),
            FaultKind.BROKER_DOWN: lambda fault: self._temporarily(fault.for_s, self.broker.stop, self.broker.start),
            FaultKind.GATEWAY_DOWN: lambda fault: self._take_down(GATEWAY, fault.for_s),
            FaultKind.STORE_DOWN: lambda fault: self._take_down(fault.where, fault.for_s),
            FaultKind.BINDING_LOST: self._unbind,
        }
        if fault.kind in without_worker:
            without_worker[fault.kind](fault)
        elif instance := self.instances.get(fault.where):  # otherwise it is being restarted
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
        """Stop a process for a while. The broker closes its connection after missed heartbeats; it reconnects when it is
        thawed."""
        instance.process.freeze(seconds)
        if seconds > HEARTBEAT_TIMEOUT_S:
            loop = asyncio.get_running_loop()
            loop.call_later(HEARTBEAT_TIMEOUT_S, instance.transport.inner.cut)
            loop.call_later(seconds, instance.transport.inner.restore)

    def _stop(self, instance: WorkerInstance, _: float = 0.0) -> None:
        """Request a shutdown, as SIGTERM does: the process must end by itself within STOP_TIMEOUT_S."""
        self.history.add_trace(instance.process.name, "receives a shutdown request")
        instance.worker.stop()
        asyncio.get_running_loop().call_later(STOP_TIMEOUT_S, self._check_stopped, instance)

    def _check_stopped(self, instance: WorkerInstance) -> None:
        if not instance.task.done():
            self.history.add_violation(
                "stops when told", f"{instance.process.name} still runs {STOP_TIMEOUT_S} s after its shutdown request"
            )

    def _kill(self, instance: WorkerInstance, _: float = 0.0) -> None:
        """Kill a process, as SIGKILL does: wherever it awaits."""
        instance.process.alive = False
        instance.transport.inner.crash()
        instance.task.cancel()
        self.history.add_trace(instance.process.name, "is killed")
