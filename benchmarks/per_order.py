"""Counts the messages and database commands of an order, in runs without timing, because counting takes time.

Messages are counted at the broker for both sides, which also shows that both send the same number and size. Database commands are
counted in our workers. Their number per order falls as batches grow, so they are counted at several loads.
"""

import json
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.rows import Scale, bare, ours
from benchmarks.servers import Servers
from benchmarks.sides import PYTHON, Load, Side, up
from bootstrap.modes import Mode

LOADS = (Load(2000, 100), Load(4000, 400))
#: Seconds that the recorder may take to end.
RECORDER_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class PerOrder:
    """The means per order. `database_commands`: those in transactions, commits included."""

    mode: Mode
    side: str
    in_flight: int
    messages: float
    body_bytes: float
    property_bytes: float
    database_commands: float
    transactions: float


def count(mode: Mode, servers: Servers, scale: Scale) -> list[PerOrder]:
    """Count ours at each load, and the bare chain once, because its counts do not depend on the load."""
    loads = [scale.of(load) for load in (LOADS[:1] if scale.quick else LOADS)]
    return [_count(ours(mode), load, servers) for load in loads] + [_count(bare(mode), loads[0], servers)]


def _count(side: Side, load: Load, servers: Servers) -> PerOrder:
    with tempfile.TemporaryDirectory(prefix="saga-bench-") as home:
        files = {worker: Path(home, worker) for worker in side.workers}
        commands = {worker: _counted_command(side, worker, file) for worker, file in files.items()}
        with up(side, servers, None, {} if side.bare else commands) as live, _recording(side) as counts:
            live.storm(load)
        totals: Counter[str] = Counter(counts)
        for file in [] if side.bare else files.values():
            totals.update(json.loads(file.read_text()))

    def per_order(name: str) -> float:
        return round(totals[name] / load.orders, 2)

    return PerOrder(
        mode=side.mode,
        side=side.name,
        in_flight=load.in_flight,
        messages=per_order("messages"),
        body_bytes=per_order("body_bytes"),
        property_bytes=per_order("property_bytes"),
        database_commands=per_order("commands"),
        transactions=per_order("transactions"),
    )


def _counted_command(side: Side, worker: str, file: Path) -> list[str]:
    return [*PYTHON, "benchmarks.counted_worker", str(file), worker, "--mode", side.mode, "--faults"]


@contextmanager
def _recording(side: Side) -> Iterator[dict[str, int]]:
    """Yield the recorder's counts, filled in at the end of the block."""
    counts: dict[str, int] = {}
    command = [*PYTHON, "benchmarks.recorder", side.prefix]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as recorder:  # noqa: S603 - a command of this package
        assert recorder.stdout is not None
        if recorder.stdout.readline().strip() != "ready":
            sys.stderr.write("the recorder did not start; messages are not counted\n")
        try:
            yield counts
        finally:
            recorder.send_signal(signal.SIGTERM)
            output, _ = recorder.communicate(timeout=RECORDER_TIMEOUT_S)
            counts.update(json.loads(output))
