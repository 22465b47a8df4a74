"""A worker's simulated process, which can be killed at any await and frozen; and the counters that trigger planned faults.

The ports of a worker check its process before they act: a killed process does nothing more, a frozen one continues when it is
thawed. Occurrences ("the 3rd commit of payment") are counted over all processes of a worker, so that a plan can name them.
"""

import asyncio
from collections import Counter
from dataclasses import dataclass, field

from lab.simulation.history import SimulationHistory
from lab.simulation.plan import CrashPoint, Fault, FaultKind, SimulationPlan
from lab.simulation.random_streams import Operation, RandomStreams
from lab.system import WorkerCrashed

#: The longest latency of one operation of a port, in seconds.
MAX_LATENCY_S = 0.02


class FaultTriggers:
    """Counts occurrences and triggers the faults that the plan has for them."""

    def __init__(self, plan: SimulationPlan, history: SimulationHistory) -> None:
        self._history = history
        self._counts: Counter[tuple[object, ...]] = Counter()
        self._planned = {
            (fault.kind, fault.where, fault.point, fault.handling, fault.nth): fault
            for fault in plan.faults
            if fault.nth and not fault.at_s
        }
        #: Set when all faults end: none is triggered any more.
        self.disabled = False

    def next_fault(self, *kinds: FaultKind, where: str = "", point: CrashPoint | None = None, handling: str = "") -> Fault | None:
        """Count one occurrence of each of `kinds` and return the fault that the plan has for it, if any."""
        triggered = None
        for kind in kinds:
            key = (kind, where, point, handling)
            self._counts[key] += 1
            fault = self._planned.get((*key, self._counts[key]))
            if fault and not self.disabled:
                triggered = fault
                self._history.on_fault(fault)
        return triggered


@dataclass(slots=True)
class SimulatedProcess:
    """One process from start to end. `worker`: its role. `name`: tells replicas apart; part of draw names, so its form is
    frozen."""

    name: str
    worker: str
    streams: RandomStreams
    fault_triggers: FaultTriggers
    history: SimulationHistory
    alive: bool = True
    #: The commands being handled, by name; set by crash_matrix.InstrumentedWorker only.
    commands_in_progress: tuple[str, ...] = ()
    _frozen_until: float = 0.0
    _operations: Counter[Operation] = field(default_factory=Counter)

    def freeze(self, for_s: float) -> None:
        self._frozen_until = asyncio.get_running_loop().time() + for_s

    async def simulate_latency(self, operation: Operation) -> None:
        """Wait for the latency of an operation, and as long as the process is frozen. Raises WorkerCrashed if it is killed."""
        self._operations[operation] += 1
        await asyncio.sleep(self.streams.uniform(0, MAX_LATENCY_S, self.name, operation, self._operations[operation]))
        await self.check()

    async def check(self) -> None:
        """Wait as long as the process is frozen. Raises WorkerCrashed if it is killed."""
        frozen_s = self._frozen_until - asyncio.get_running_loop().time()
        if frozen_s > 0:
            await asyncio.sleep(frozen_s)
        if not self.alive:
            raise WorkerCrashed

    async def reach(self, point: CrashPoint) -> None:
        """Kill the process if the plan has a kill at this point, between two steps of the worker. Raises WorkerCrashed then."""
        await self.check()
        for handling in ("", *self.commands_in_progress):
            if self.fault_triggers.next_fault(FaultKind.KILL_AT, where=self.worker, point=point, handling=handling):
                self.die()

    def die(self) -> None:
        """Kill the process from inside. Raises WorkerCrashed."""
        self.alive = False
        self.history.add_trace(self.name, "is killed")
        raise WorkerCrashed
