"""What strikes when: a list of faults drawn from a seed, before the run.

Pure. Three lanes run beside each other. In the first the servers that everybody needs (broker, database) and
the way to them fail, one at a time, with pauses in which work gets done; in the second workers and the payment gateway; in the
third, in long runs only, something stays away for longer than the patience of those who wait for it (heartbeats, confirms).
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

BROKER, DATABASE, GATEWAY = "broker", "database", "gateway"
#: What workers reach over a connection, and so what can be cut off from them.
LINKS = (BROKER, DATABASE, GATEWAY)


class Kind(StrEnum):
    """What happens to a process, or to the connections to it."""

    KILL = "kill"  # SIGKILL; it is started again at once
    FREEZE = "freeze"  # SIGSTOP, and SIGCONT a while later
    CUT = "cut"  # every connection to it is reset; new ones are welcome
    BLACK_HOLE = "black hole"  # what is sent either way disappears; then the connections are reset
    DELAY = "delay"  # what is sent either way arrives later
    FULL_DISK = "full disk"  # nothing more can be written where it keeps its data, until there is room again


#: For each fault of a server or link: how long it lasts at least and at most, and how long nothing else strikes in its lane. A
#: broker needs about 4 s to come back, a database 1 s.
LASTS_S = {Kind.FREEZE: (1.0, 2.5), Kind.BLACK_HOLE: (1.5, 3.0), Kind.DELAY: (1.5, 2.5), Kind.FULL_DISK: (2.0, 4.0)}
SLOT_S = {Kind.CUT: 1.5, Kind.FREEZE: 3.5, Kind.BLACK_HOLE: 4.0, Kind.DELAY: 3.0, Kind.FULL_DISK: 6.0}
KILL_SLOT_S = {BROKER: 6.0, DATABASE: 3.0}
#: Seconds added to a slot by chance.
JITTER_S = 0.4
#: After the first round, in which every fault occurs, a round has both kills and this many of the other faults.
OTHERS_A_ROUND = 3

#: The second lane's slots. A worker is back within about 2 s.
WORKER_SLOT_S = (1.9, 2.3)
WORKER_LASTS_S = (0.5, 1.8)

#: The third lane: runs of at least this length, a fault every so often, each so long. A heartbeat's patience is 20 to 30 s.
LONG_RUN_S, LONG_EACH_S, LONG_LASTS_S = 150.0, 70.0, (12.0, 35.0)
#: A long fault leaves this much of the run alone at its end.
LONG_REST_S = 5.0


@dataclass(frozen=True, slots=True)
class Fault:
    """At `at_s` from the start of the storm, `target` suffers `kind`; `for_s` is 0 for what is over at once."""

    at_s: float
    kind: Kind
    target: str
    for_s: float = 0.0

    @property
    def name(self) -> str:
        """What it is counted under."""
        return f"{self.kind} {self.target}"

    @property
    def until_s(self) -> float:
        return self.at_s + self.for_s


def draw(seed: int, seconds: float, workers: Sequence[str], full_disks: Sequence[str] = ()) -> list[Fault]:
    """The faults of a run in the order of their times; the last is over before `seconds`.

    `full_disks`: the servers whose disk can be filled. The same arguments give the same faults."""
    long_ones = list(_long(random.Random(f"{seed}:long"), seconds, workers))
    servers = _servers(random.Random(f"{seed}:servers"), full_disks)
    others = _workers(random.Random(f"{seed}:workers"), workers)
    faults = [*_within(servers, seconds), *_within(others, seconds)]
    busy = [fault for fault in faults if not any(_at_once(fault, one) for one in long_ones)]
    return sorted([*busy, *long_ones], key=lambda fault: (fault.at_s, fault.target, fault.kind))


def names(workers: Sequence[str], full_disks: Sequence[str] = ()) -> set[str]:
    """Everything that a run of these workers counts."""
    ends = [BROKER, DATABASE, GATEWAY, *workers]
    struck = {f"{kind} {target}" for kind in (Kind.KILL, Kind.FREEZE) for target in ends}
    cut_off = {f"{kind} {target}" for kind in (Kind.CUT, Kind.BLACK_HOLE, Kind.DELAY) for target in LINKS}
    return struck | cut_off | {f"{Kind.FULL_DISK} {target}" for target in full_disks}


def _within(faults: Iterator[Fault], seconds: float) -> Iterator[Fault]:
    for fault in faults:
        if fault.at_s >= seconds:
            return
        if fault.until_s < seconds:
            yield fault


def _at_once(fault: Fault, long_one: Fault) -> bool:
    """Whether a fault strikes what is away for long anyway."""
    return fault.target == long_one.target and fault.at_s < long_one.until_s + LONG_REST_S and long_one.at_s < fault.until_s


def _servers(chance: random.Random, full_disks: Sequence[str]) -> Iterator[Fault]:
    """For ever: rounds of what happens to broker, database and the way there."""
    kills = [(Kind.KILL, BROKER), (Kind.KILL, DATABASE)]
    others = [
        (kind, target) for target in (BROKER, DATABASE) for kind in (Kind.FREEZE, Kind.CUT, Kind.BLACK_HOLE, Kind.DELAY)
    ] + [(Kind.FULL_DISK, target) for target in full_disks]
    at_s = chance.uniform(1.0, 1.5)
    chosen = others
    while True:
        for kind, target in _shuffled(chance, kills + chosen):
            yield Fault(at_s, kind, target, chance.uniform(*LASTS_S.get(kind, (0.0, 0.0))))
            slot_s = KILL_SLOT_S[target] if kind is Kind.KILL else SLOT_S[kind]
            at_s += slot_s + chance.uniform(0.0, JITTER_S)
        chosen = chance.sample(others, OTHERS_A_ROUND)


def _workers(chance: random.Random, workers: Sequence[str]) -> Iterator[Fault]:
    """For ever: rounds of what happens to workers, to the payment gateway and the way there."""
    round_ = [(kind, target) for target in (*workers, GATEWAY) for kind in (Kind.KILL, Kind.FREEZE)]
    round_ += [(kind, GATEWAY) for kind in (Kind.CUT, Kind.BLACK_HOLE, Kind.DELAY)]
    at_s = chance.uniform(0.5, 1.0)
    while True:
        for kind, target in _shuffled(chance, round_):
            over_at_once = kind in (Kind.KILL, Kind.CUT)
            yield Fault(at_s, kind, target, 0.0 if over_at_once else chance.uniform(*WORKER_LASTS_S))
            at_s += chance.uniform(*WORKER_SLOT_S)


def _long(chance: random.Random, seconds: float, workers: Sequence[str]) -> Iterator[Fault]:
    """Long absences, one after the other, each of another target; none in a short run."""
    if seconds < LONG_RUN_S:
        return
    at_s = chance.uniform(15.0, 25.0)
    while True:
        holes = [(Kind.BLACK_HOLE, BROKER), (Kind.BLACK_HOLE, DATABASE)]
        for kind, target in _shuffled(chance, [*((Kind.FREEZE, worker) for worker in workers), *holes]):
            fault = Fault(at_s, kind, target, chance.uniform(*LONG_LASTS_S))
            if fault.until_s > seconds - LONG_REST_S:
                return
            yield fault
            at_s += LONG_EACH_S


def _shuffled(chance: random.Random, faults: Sequence[tuple[Kind, str]]) -> list[tuple[Kind, str]]:
    return chance.sample(faults, len(faults))
