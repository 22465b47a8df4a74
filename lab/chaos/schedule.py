"""The schedule of faults of a run, drawn from a seed before the run begins. Pure.

Three sequences run in parallel. In the first the shared servers (broker, database) and the links to them fail, one at a time,
with pauses in which work gets done. In the second the workers and the payment gateway fail. In the third, in long runs only, one
target is unavailable for longer than the timeouts of its peers (heartbeats, confirms).
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

BROKER, DATABASE, GATEWAY = "broker", "database", "gateway"
#: The servers that workers reach through a proxy, whose connections can therefore be disturbed.
LINKS = (BROKER, DATABASE, GATEWAY)


class ChaosFaultKind(StrEnum):
    """What happens to a process, or to the connections to it."""

    KILL = "kill"  # SIGKILL; the process is restarted at once
    FREEZE = "freeze"  # SIGSTOP, later SIGCONT
    CUT = "cut"  # every connection to it is reset; new ones are accepted
    BLACK_HOLE = "black hole"  # data is dropped in both directions; then the connections are reset
    DELAY = "delay"  # data arrives later in both directions
    FULL_DISK = "full disk"  # the disk that holds its data has no space left


#: Fault of a server or link -> its shortest and longest duration.
DURATION_S = {
    ChaosFaultKind.FREEZE: (1.0, 2.5),
    ChaosFaultKind.BLACK_HOLE: (1.5, 3.0),
    ChaosFaultKind.DELAY: (1.5, 2.5),
    ChaosFaultKind.FULL_DISK: (2.0, 4.0),
}
#: Fault of a server or link -> seconds until the next fault of the first sequence.
SLOT_S = {
    ChaosFaultKind.CUT: 1.5,
    ChaosFaultKind.FREEZE: 3.5,
    ChaosFaultKind.BLACK_HOLE: 4.0,
    ChaosFaultKind.DELAY: 3.0,
    ChaosFaultKind.FULL_DISK: 6.0,
}
#: Killed server -> the same. A broker needs about 4 s to come back, a database 1 s.
KILL_SLOT_S = {BROKER: 6.0, DATABASE: 3.0}
#: The most seconds that are added to a slot at random.
JITTER_S = 0.4
#: The first round has every fault. Each later round has both kills and this many of the other faults.
OTHERS_PER_ROUND = 3

#: Slots and durations of the second sequence. A worker is back within about 2 s.
WORKER_SLOT_S = (1.9, 2.3)
WORKER_DURATION_S = (0.5, 1.8)

#: The third sequence: the shortest run that has one, the interval of its faults, and their duration. A heartbeat times out after
#: 20 to 30 s.
LONG_RUN_S, LONG_INTERVAL_S, LONG_DURATION_S = 150.0, 70.0, (12.0, 35.0)
#: Seconds without another fault of the same target after a long fault, and without a long fault at the end of the run.
LONG_REST_S = 5.0


@dataclass(frozen=True, slots=True)
class ChaosFault:
    """A fault of `target`, `at_s` seconds after the start. `for_s` is its duration, 0 for what is over at once."""

    at_s: float
    kind: ChaosFaultKind
    target: str
    for_s: float = 0.0

    @property
    def name(self) -> str:
        """The name under which it is counted."""
        return f"{self.kind} {self.target}"

    @property
    def until_s(self) -> float:
        return self.at_s + self.for_s


def draw_faults(seed: int, seconds: float, workers: Sequence[str], full_disks: Sequence[str] = ()) -> list[ChaosFault]:
    """The faults of a run, ordered by time. The last is over before `seconds`. The same arguments give the same faults.

    `full_disks`: the servers whose disk can be filled."""
    long_faults = list(_long(random.Random(f"{seed}:long"), seconds, workers))
    servers = _servers(random.Random(f"{seed}:servers"), full_disks)
    others = _workers(random.Random(f"{seed}:workers"), workers)
    faults = [*_until_end(servers, seconds), *_until_end(others, seconds)]
    short_faults = [fault for fault in faults if not any(_overlaps(fault, one) for one in long_faults)]
    return sorted([*short_faults, *long_faults], key=lambda fault: (fault.at_s, fault.target, fault.kind))


def fault_names(workers: Sequence[str], full_disks: Sequence[str] = ()) -> set[str]:
    """The names of all faults that a run with these workers can have."""
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
    """Whether a fault hits a target during a long fault of it."""
    return fault.target == long_fault.target and fault.at_s < long_fault.until_s + LONG_REST_S and long_fault.at_s < fault.until_s


def _servers(rng: random.Random, full_disks: Sequence[str]) -> Iterator[ChaosFault]:
    """Endless rounds of faults of broker, database and the links to them."""
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
    """Endless rounds of faults of the workers, the payment gateway and the link to it."""
    round_ = [(kind, target) for target in (*workers, GATEWAY) for kind in (ChaosFaultKind.KILL, ChaosFaultKind.FREEZE)]
    round_ += [(kind, GATEWAY) for kind in (ChaosFaultKind.CUT, ChaosFaultKind.BLACK_HOLE, ChaosFaultKind.DELAY)]
    at_s = rng.uniform(0.5, 1.0)
    while True:
        for kind, target in _shuffled(rng, round_):
            over_at_once = kind in (ChaosFaultKind.KILL, ChaosFaultKind.CUT)
            yield ChaosFault(at_s, kind, target, 0.0 if over_at_once else rng.uniform(*WORKER_DURATION_S))
            at_s += rng.uniform(*WORKER_SLOT_S)


def _long(rng: random.Random, seconds: float, workers: Sequence[str]) -> Iterator[ChaosFault]:
    """Long faults, one after the other, in rounds that have each target once. None in a short run."""
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
