"""One life of a worker's process: it can be killed at any await, stand still, and have a clock that is off.

The ports of a worker ask its life before they do anything: what is dead does nothing any more, what is
frozen does it later. Occasions (`the 3rd commit of payment`) are counted over all lives of a worker, so a plan can name them.
"""

import asyncio
from collections import Counter
from dataclasses import dataclass, field

from lab.simulation.history import SimulationHistory
from lab.simulation.plan import CrashPoint, Fault, FaultKind, SimulationPlan
from lab.simulation.random_streams import RandomStreams
from lab.system import WorkerCrashed

#: The longest that one operation of a port takes, in seconds.
MAX_LATENCY_S = 0.02


class FaultTriggers:
    """Counts what happens, and gives the faults that the plan has for that occasion."""

    def __init__(self, plan: SimulationPlan, history: SimulationHistory) -> None:
        self._history = history
        self._counts: Counter[tuple[object, ...]] = Counter()
        self._planned = {
            (fault.kind, fault.where, fault.point, fault.handling, fault.nth): fault
            for fault in plan.faults
            if fault.nth and not fault.at_s
        }
        #: Set when everything heals: nothing strikes any more.
        self.disabled = False

    def next_fault(self, *kinds: FaultKind, where: str = "", point: CrashPoint | None = None, handling: str = "") -> Fault | None:
        """Count one occasion of `kinds` and give the fault that the plan has for it, if any."""
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
    """From the start of a process to its end. `worker` is its role, `name` tells replicas apart."""

    name: str
    worker: str
    streams: RandomStreams
    fault_triggers: FaultTriggers
    history: SimulationHistory
    alive: bool = True
    #: The commands being handled, by name, where somebody tells.
    commands_in_progress: tuple[str, ...] = ()
    _frozen_until: float = 0.0
    _operations: Counter[str] = field(default_factory=Counter)

    def freeze(self, for_s: float) -> None:
        self._frozen_until = asyncio.get_running_loop().time() + for_s

    async def simulate_latency(self, operation: str) -> None:
        """An operation of a port begins: it takes a moment, and as long as the process is frozen it does not begin."""
        self._operations[operation] += 1
        await asyncio.sleep(self.streams.uniform(0, MAX_LATENCY_S, self.name, operation, self._operations[operation]))
        await self.check()

    async def check(self) -> None:
        """Raise if this process is dead; wait as long as it is frozen."""
        frozen_s = self._frozen_until - asyncio.get_running_loop().time()
        if frozen_s > 0:
            await asyncio.sleep(frozen_s)
        if not self.alive:
            raise WorkerCrashed

    async def reach(self, point: CrashPoint) -> None:
        """The worker stands between two of its steps: here it may be killed."""
        await self.check()
        for handling in ("", *self.commands_in_progress):
            if self.fault_triggers.next_fault(FaultKind.KILL_AT, where=self.worker, point=point, handling=handling):
                self.die()

    def die(self) -> None:
        """Kill the process from inside."""
        self.alive = False
        self.history.add_trace(self.name, "is killed")
        raise WorkerCrashed
