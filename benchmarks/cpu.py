"""Measures how much CPU other processes used during a measurement. Linux only: it reads /proc.

The busy time of the machine, less that of the processes of the measurement: ours, and the servers that they use. The runner
repeats a pair that was measured while other processes used too much.
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
    """CPU seconds since an arbitrary origin: of the whole machine, and of our processes. `at` is monotonic time."""

    at: float
    machine_s: float
    ours_s: float


@dataclass(slots=True)
class CpuMeter:
    """Takes readings in a thread while the block of `measuring` runs."""

    #: Our processes: process id -> name in a report.
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
        """The largest share of all cores that other processes used in any `window_s` seconds, the measured ones among them."""
        worst = 0.0
        for index, first in enumerate(self.readings):
            last = next((reading for reading in self.readings[index:] if reading.at - first.at >= window_s), self.readings[-1])
            elapsed_s = last.at - first.at
            if elapsed_s >= min(window_s, self.readings[-1].at - self.readings[0].at) > 0:
                foreign_s = (last.machine_s - first.machine_s) - (last.ours_s - first.ours_s)
                worst = max(worst, 100 * foreign_s / (elapsed_s * CORES))
        return worst

    def used_s(self) -> dict[str, float]:
        """CPU seconds that each of our processes used during the measurement, by name."""
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
            if used_s is not None:  # a process that has ended keeps its last value
                self._names[pid] = name
                self._first.setdefault(pid, used_s)
                self._last[pid] = used_s
        self.readings.append(CpuReading(time.monotonic(), machine_cpu_s(), sum(self._last.values())))


def wait_until_quiet(processes: Callable[[], Mapping[int, str]], percent: float, timeout_s: float) -> None:
    """Wait until other processes use at most `percent` of the machine for one second. Returns after `timeout_s` in any case."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        meter = CpuMeter(processes)
        with meter.measuring():
            time.sleep(1)
        if meter.foreign_percent(1) <= percent:
            return


def machine_cpu_s() -> float:
    """Busy CPU seconds of all cores together, including time stolen by other virtual machines."""
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, Path("/proc/stat").read_text().split()[1:9])
    return (user + nice + system + irq + softirq + steal) * TICK_S


def process_cpu_s(pid: int) -> float | None:
    """CPU seconds that a process has used; None when there is no such process."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return (int(fields[11]) + int(fields[12])) * TICK_S  # utime and stime, counted from behind the name, which may contain spaces


def pids_by_name(*names: str) -> list[int]:
    """The ids of the processes of this machine whose name begins with one of `names`."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if (folder / "comm").read_text().startswith(names):
                found.append(int(folder.name))
        except OSError:
            continue  # it has ended
    return found
