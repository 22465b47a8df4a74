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


class ChaosFaultKind(StrEnum):
    """What happens to a process, or to the connections to it."""

    KILL = "kill"  # SIGKILL; it is started again at once
    FREEZE = "freeze"  # SIGSTOP, and SIGCONT a while later
    CUT = "cut"  # every connection to it is reset; new ones are welcome
    BLACK_HOLE = "black hole"  # what is sent either way disappears; then the connections are reset
    DELAY = "delay"  # what is sent either way arrives later
    FULL_DISK = "full disk"  # nothing more can be written where it keeps its data, until there is room again


#: For each fault of a server or link: how long it lasts at least and at most, and how long nothing else strikes in its lane. A
#: broker needs about 4 s to come back, a database 1 s.
DURATION_S = {
    ChaosFaultKind.FREEZE: (1.0, 2.5),
    ChaosFaultKind.BLACK_HOLE: (1.5, 3.0),
    ChaosFaultKind.DELAY: (1.5, 2.5),
    ChaosFaultKind.FULL_DISK: (2.0, 4.0),
}
SLOT_S = {
    ChaosFaultKind.CUT: 1.5,
    ChaosFaultKind.FREEZE: 3.5,
    ChaosFaultKind.BLACK_HOLE: 4.0,
    ChaosFaultKind.DELAY: 3.0,
    ChaosFaultKind.FULL_DISK: 6.0,
}
KILL_SLOT_S = {BROKER: 6.0, DATABASE: 3.0}
#: Seconds added to a slot by chance.
JITTER_S = 0.4
#: After the first round, in which every fault occurs, a round has both kills and this many of the other faults.
OTHERS_PER_ROUND = 3

#: The second lane's slots. A worker is back within about 2 s.
WORKER_SLOT_S = (1.9, 2.3)
WORKER_DURATION_S = (0.5, 1.8)

#: The third lane: runs of at least this length, a fault every so often, each so long. A heartbeat's patience is 20 to 30 s.
LONG_RUN_S, LONG_INTERVAL_S, LONG_DURATION_S = 150.0, 70.0, (12.0, 35.0)
#: A long fault leaves this much of the run alone at its end.
LONG_REST_S = 5.0


@dataclass(frozen=True, slots=True)
class ChaosFault:
    """At `at_s` from the start of the storm, `target` suffers `kind`; `for_s` is 0 for what is over at once."""

    at_s: float
    kind: ChaosFaultKind
    target: str
    for_s: float = 0.0

    @property
    def name(self) -> str:
        """What it is counted under."""
        return f"{self.kind} {self.target}"

    @property
    def until_s(self) -> float:
        return self.at_s + self.for_s


def draw_faults(seed: int, seconds: float, workers: Sequence[str], full_disks: Sequence[str] = ()) -> list[ChaosFault]:
    """The faults of a run in the order of their times; the last is over before `seconds`.

    `full_disks`: the servers whose disk can be filled. The same arguments give the same faults."""
    long_faults = list(_long(random.Random(f"{seed}:long"), seconds, workers))
    servers = _servers(random.Random(f"{seed}:servers"), full_disks)
    others = _workers(random.Random(f"{seed}:workers"), workers)
    faults = [*_until_end(servers, seconds), *_until_end(others, seconds)]
    short_faults = [fault for fault in faults if not any(_overlaps(fault, one) for one in long_faults)]
    return sorted([*short_faults, *long_faults], key=lambda fault: (fault.at_s, fault.target, fault.kind))


def fault_names(workers: Sequence[str], full_disks: Sequence[str] = ()) -> set[str]:
    """Everything that a run of these workers counts."""
    ends = [BROKER, DATABASE, GATEWAY, *workers]
    process_faults = {f"{kind} {target}" for kind in (ChaosFaultKind.KILL, ChaosFaultKind.FREEZE) for target in ends}
    link_faults = {
        f"{kind} {target}" for kind in (ChaosFaultKind.CUT, ChaosFaultKind.BLACK_HOLE, ChaosFaultKind.DELAY) for target in LINKS
    }
    return process_faults | link_faults | {f"{ChaosFaultKind.FULL_DISK} {target}" for target in full_disks}


def _until_end(faults: Iterator[ChaosFault], seconds: float) -> Iterator[ChaosFault]:
    for fault in faults:
        if fault.at_s >= seconds:
            return
        if fault.until_s < seconds:
            yield fault


def _overlaps(fault: ChaosFault, long_fault: ChaosFault) -> bool:
    """Whether a fault strikes what is away for long anyway."""
    return fault.target == long_fault.target and fault.at_s < long_fault.until_s + LONG_REST_S and long_fault.at_s < fault.until_s


def _servers(rng: random.Random, full_disks: Sequence[str]) -> Iterator[ChaosFault]:
    """For ever: rounds of what happens to broker, database and the way there."""
    kills = [(ChaosFaultKind.KILL, BROKER), (ChaosFaultKind.KILL, DATABASE)]
    others = [
        (kind, target)
        for target in (BROKER, DATABASE)
        for kind in (ChaosFaultKind.FREEZE, ChaosFaultKind.CUT, ChaosFaultKind.BLACK_HOLE, ChaosFaultKind.DELAY)
    ] + [(ChaosFaultKind.FULL_DISK, target) for target in full_disks]
    at_s = rng.uniform(1.0, 1.5)
    chosen = others
    while True:
        for kind, target in _shuffled(rng, kills + chosen):
            yield ChaosFault(at_s, kind, target, rng.uniform(*DURATION_S.get(kind, (0.0, 0.0))))
            slot_s = KILL_SLOT_S[target] if kind is ChaosFaultKind.KILL else SLOT_S[kind]
            at_s += slot_s + rng.uniform(0.0, JITTER_S)
        chosen = rng.sample(others, OTHERS_PER_ROUND)


def _workers(rng: random.Random, workers: Sequence[str]) -> Iterator[ChaosFault]:
    """For ever: rounds of what happens to workers, to the payment gateway and the way there."""
    round_ = [(kind, target) for target in (*workers, GATEWAY) for kind in (ChaosFaultKind.KILL, ChaosFaultKind.FREEZE)]
    round_ += [(kind, GATEWAY) for kind in (ChaosFaultKind.CUT, ChaosFaultKind.BLACK_HOLE, ChaosFaultKind.DELAY)]
    at_s = rng.uniform(0.5, 1.0)
    while True:
        for kind, target in _shuffled(rng, round_):
            over_at_once = kind in (ChaosFaultKind.KILL, ChaosFaultKind.CUT)
            yield ChaosFault(at_s, kind, target, 0.0 if over_at_once else rng.uniform(*WORKER_DURATION_S))
            at_s += rng.uniform(*WORKER_SLOT_S)


def _long(rng: random.Random, seconds: float, workers: Sequence[str]) -> Iterator[ChaosFault]:
    """Long absences, one after the other, each of another target; none in a short run."""
    if seconds < LONG_RUN_S:
        return
    at_s = rng.uniform(15.0, 25.0)
    while True:
        holes = [(ChaosFaultKind.BLACK_HOLE, BROKER), (ChaosFaultKind.BLACK_HOLE, DATABASE)]
        for kind, target in _shuffled(rng, [*((ChaosFaultKind.FREEZE, worker) for worker in workers), *holes]):
            fault = ChaosFault(at_s, kind, target, rng.uniform(*LONG_DURATION_S))
            if fault.until_s > seconds - LONG_REST_S:
                return
            yield fault
            at_s += LONG_INTERVAL_S


def _shuffled(rng: random.Random, faults: Sequence[tuple[ChaosFaultKind, str]]) -> list[tuple[ChaosFaultKind, str]]:
    return rng.sample(faults, len(faults))
