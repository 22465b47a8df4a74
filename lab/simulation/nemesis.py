"""The faults of a plan, as they strike the world of a simulated run: kills, stops, cuts, freezes, servers that go away.

`World` calls `strike` when the time of a fault has come; the faults of an occasion (a lost confirm, say) act in the ports.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from broker.memory.broker import MemoryBroker
from broker.topology import Topology, queue_of
from broker.worker import Worker
from lab.simulation.history import History
from lab.simulation.plan import Fault, Kind
from lab.simulation.ports import SimulatedTransport
from lab.simulation.process import Life

#: How long the broker believes in a connection whose process stands still.
HEARTBEAT_S = 1.5
#: How long a worker that is told to stop may take, in seconds; everything it waits for then heals sooner.
STOPS_WITHIN_S = 10.0
#: What the payment gateway is called among the servers that may be down.
GATEWAY = "gateway"


@dataclass(slots=True)
class Process:
    """A worker that is up."""

    life: Life
    worker: Worker
    transport: SimulatedTransport
    task: "asyncio.Task[None]"


@dataclass(frozen=True, slots=True)
class Nemesis:
    """Strikes one world. `down` is the world's set of servers that do not answer, `withdraw` sends a customer's withdrawal of an
    order by its number."""

    history: History
    broker: MemoryBroker
    topology: Topology
    processes: Mapping[str, Process]
    down: set[str]
    withdraw: Callable[[int], None]

    def strike(self, fault: Fault) -> None:
        """A fault whose time has come."""
        self.history.injected(fault)
        at_a_worker: dict[Kind, Callable[[Process, float], None]] = {
            Kind.KILL: self._kill,
            Kind.STOP: self._stop,
            Kind.CUT: self._cut,
            Kind.FREEZE: self._freeze,
        }
        elsewhere: dict[Kind, Callable[[Fault], None]] = {
            Kind.WITHDRAWAL: lambda fault: self.withdraw(fault.nth),
            Kind.BROKER_DOWN: lambda fault: self._for(fault.for_s, self.broker.stop, self.broker.start),
            Kind.GATEWAY_DOWN: lambda fault: self._take_away(GATEWAY, fault.for_s),
            Kind.STORE_DOWN: lambda fault: self._take_away(fault.where, fault.for_s),
            Kind.UNBOUND: self._unbind,
        }
        if fault.kind in elsewhere:
            elsewhere[fault.kind](fault)
        elif process := self.processes.get(fault.where):  # otherwise it is dead already
            at_a_worker[fault.kind](process, fault.for_s)

    def _take_away(self, server: str, seconds: float) -> None:
        self._for(seconds, lambda: self.down.add(server), lambda: self.down.discard(server))

    def _unbind(self, fault: Fault) -> None:
        queue = self.broker.queue(queue_of(self.topology.prefix, fault.where))
        self._for(fault.for_s, lambda: self.broker.unbind(queue), lambda: self.broker.declare(self.topology))

    def _cut(self, process: Process, seconds: float) -> None:
        self._for(seconds, process.transport.inner.cut, process.transport.inner.restore)

    def _for(self, seconds: float, begin: Callable[[], Any], end: Callable[[], Any]) -> None:
        begin()
        asyncio.get_running_loop().call_later(seconds, end)

    def _freeze(self, process: Process, seconds: float) -> None:
        """It stands still; the broker gives it up after missed heartbeats, and it connects again when it wakes."""
        process.life.freeze(seconds)
        if seconds > HEARTBEAT_S:
            loop = asyncio.get_running_loop()
            loop.call_later(HEARTBEAT_S, process.transport.inner.cut)
            loop.call_later(seconds, process.transport.inner.restore)

    def _stop(self, process: Process, _: float = 0.0) -> None:
        """SIGTERM: it has to end by itself, soon."""
        self.history.note(process.life.name, "is told to stop")
        process.worker.stop()
        asyncio.get_running_loop().call_later(STOPS_WITHIN_S, self._has_stopped, process)

    def _has_stopped(self, process: Process) -> None:
        if not process.task.done():
            self.history.found("stops when told", f"{process.life.name} runs on {STOPS_WITHIN_S} s after it was told to stop")

    def _kill(self, process: Process, _: float = 0.0) -> None:
        """Kill a process wherever it stands."""
        process.life.alive = False
        process.transport.inner.crash()
        process.task.cancel()
        self.history.note(process.life.name, "is killed")
