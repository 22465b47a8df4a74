"""How much of the machine other processes took while something was measured. Linux only: it reads /proc.

What the machine was busy for, less what the processes of the measurement were: ours, and the servers they use.
A figure taken beside somebody else's work is no figure; this is how the runner knows.
"""

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

#: Seconds between two readings.
INTERVAL_S = 0.25
TICK_S = 1 / os.sysconf("SC_CLK_TCK")
CORES = os.cpu_count() or 1


@dataclass(frozen=True, slots=True)
class CpuReading:
    """Seconds of CPU since something long ago: of the whole machine, and of our processes. `at` is monotonic."""

    at: float
    machine_s: float
    ours_s: float


@dataclass(slots=True)
class CpuMeter:
    """Reads again and again, in a thread, while `measuring`."""

    #: Our processes by id, each with what it is called in a report.
    processes: Callable[[], Mapping[int, str]]
    readings: list[CpuReading] = field(default_factory=list)
    _first: dict[int, float] = field(default_factory=dict)
    _last: dict[int, float] = field(default_factory=dict)
    _names: dict[int, str] = field(default_factory=dict)

    @contextmanager
    def measuring(self) -> Iterator[None]:
        stopped = threading.Event()
        thread = threading.Thread(target=self._read_until, args=(stopped,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            stopped.set()
            thread.join()

    def foreign_percent(self, window_s: float) -> float:
        """The share of all cores that others took, in the worst `window_s` seconds: the measured part is among them."""
        worst = 0.0
        for index, first in enumerate(self.readings):
            last = next((reading for reading in self.readings[index:] if reading.at - first.at >= window_s), self.readings[-1])
            elapsed_s = last.at - first.at
            if elapsed_s >= min(window_s, self.readings[-1].at - self.readings[0].at) > 0:
                foreign_s = (last.machine_s - first.machine_s) - (last.ours_s - first.ours_s)
                worst = max(worst, 100 * foreign_s / (elapsed_s * CORES))
        return worst

    def used_s(self) -> dict[str, float]:
        """Seconds of CPU that each of our processes used meanwhile, by name."""
        used: dict[str, float] = {}
        for pid, name in self._names.items():
            used[name] = used.get(name, 0.0) + self._last[pid] - self._first[pid]
        return used

    def _read_until(self, stopped: threading.Event) -> None:
        self._read()
        while not stopped.wait(INTERVAL_S):
            self._read()
        self._read()

    def _read(self) -> None:
        for pid, name in self.processes().items():
            used_s = process_cpu_s(pid)
            if used_s is not None:  # one that has ended keeps the last value it was seen with
                self._names[pid] = name
                self._first.setdefault(pid, used_s)
                self._last[pid] = used_s
        self.readings.append(CpuReading(time.monotonic(), machine_cpu_s(), sum(self._last.values())))


def wait_until_quiet(processes: Callable[[], Mapping[int, str]], percent: float, timeout_s: float) -> None:
    """Wait until others take no more than `percent` of the machine for a second; after `timeout_s` it has to do as it is."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        meter = CpuMeter(processes)
        with meter.measuring():
            time.sleep(1)
        if meter.foreign_percent(1) <= percent:
            return


def machine_cpu_s() -> float:
    """Seconds that its cores were not idle, together. Time stolen by other virtual machines counts: it was not to be had."""
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, Path("/proc/stat").read_text().split()[1:9])
    return (user + nice + system + irq + softirq + steal) * TICK_S


def process_cpu_s(pid: int) -> float | None:
    """Seconds that a process has used, None when there is no such process."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return (int(fields[11]) + int(fields[12])) * TICK_S  # utime and stime; the fields before them hold the name


def pids_by_name(*names: str) -> list[int]:
    """The processes of this machine whose name begins with one of `names`: servers that were there before."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if (folder / "comm").read_text().startswith(names):
                found.append(int(folder.name))
        except OSError:
            continue  # it has ended meanwhile
    return found
