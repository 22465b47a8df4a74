"""One life of a worker's process: it can be killed at any await, stand still, and have a clock that is off.

The ports of a worker ask its life before they do anything: what is dead does nothing any more, what is
frozen does it later. Occasions (`the 3rd commit of payment`) are counted over all lives of a worker, so a plan can name them.
"""

import asyncio
from collections import Counter
from dataclasses import dataclass, field

from lab.simulation.history import History
from lab.simulation.plan import Fault, Kind, Plan, Point
from lab.simulation.random_streams import Dice
from lab.system import WorkerCrashed

#: The longest that one operation of a port takes, in seconds.
LATENCY_S = 0.02


class Occasions:
    """Counts what happens, and gives the faults that the plan has for that occasion."""

    def __init__(self, plan: Plan, history: History) -> None:
        self._history = history
        self._counts: Counter[tuple[object, ...]] = Counter()
        self._due = {
            (fault.kind, fault.where, fault.point, fault.handling, fault.nth): fault
            for fault in plan.faults
            if fault.nth and not fault.at_s
        }
        #: Set when everything heals: nothing strikes any more.
        self.over = False

    def strikes(self, *kinds: Kind, where: str = "", point: Point | None = None, handling: str = "") -> Fault | None:
        """Count one occasion of `kinds` and give the fault that the plan has for it, if any."""
        struck = None
        for kind in kinds:
            occasion = (kind, where, point, handling)
            self._counts[occasion] += 1
            fault = self._due.get((*occasion, self._counts[occasion]))
            if fault and not self.over:
                struck = fault
                self._history.injected(fault)
        return struck


@dataclass(slots=True)
class Life:
    """From the start of a process to its end. `worker` is its role, `name` tells replicas apart."""

    name: str
    worker: str
    dice: Dice
    occasions: Occasions
    history: History
    alive: bool = True
    #: The commands being handled, by name, where somebody tells.
    in_hand: tuple[str, ...] = ()
    _thaws_at: float = 0.0
    _operations: Counter[str] = field(default_factory=Counter)

    def freeze(self, for_s: float) -> None:
        self._thaws_at = asyncio.get_running_loop().time() + for_s

    async def take_time(self, operation: str) -> None:
        """An operation of a port begins: it takes a moment, and as long as the process is frozen it does not begin."""
        self._operations[operation] += 1
        await asyncio.sleep(self.dice.between(0, LATENCY_S, self.name, operation, self._operations[operation]))
        await self.check()

    async def check(self) -> None:
        """Raise if this process is dead; wait as long as it is frozen."""
        frozen_s = self._thaws_at - asyncio.get_running_loop().time()
        if frozen_s > 0:
            await asyncio.sleep(frozen_s)
        if not self.alive:
            raise WorkerCrashed

    async def reach(self, point: Point) -> None:
        """The worker stands between two of its steps: here it may be killed."""
        await self.check()
        for handling in ("", *self.in_hand):
            if self.occasions.strikes(Kind.KILL_AT, where=self.worker, point=point, handling=handling):
                self.die()

    def die(self) -> None:
        """Kill the process from inside."""
        self.alive = False
        self.history.note(self.name, "is killed")
        raise WorkerCrashed
