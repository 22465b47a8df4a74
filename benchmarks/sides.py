"""The sides of a comparison, our workers or a bare chain's, as processes that storms are run on.

A side is started, warmed up, emptied, measured and stopped. Two sides do not run at the same time. A storm in which an order
did not complete, or whose audit failed, ends the benchmark.
"""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from benchmarks.cpu import CpuMeter
from benchmarks.load import prefix_of
from benchmarks.servers import Servers, delete, until_consumed
from bootstrap.modes import Mode, roles
from broker.topology import dropped_queue, queue_of
from observer.recorder import NAME as OBSERVER

PYTHON = (sys.executable, "-m")
#: Seconds until a storm gives up on open orders, and the additional seconds that its process may take.
STORM_TIMEOUT_S, MARGIN_S = 180, 60


class RunFailed(Exception):  # noqa: N818 - it names what happened
    """A run without a valid result: a worker died, or not every order completed."""


@dataclass(frozen=True, slots=True)
class Load:
    """The load of one storm, as options of `saga storm`."""

    orders: int
    in_flight: int
    rate: float | None = None
    failures: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Run:
    """The result of one storm: its figures, the share of the machine that other processes used, and the CPU of each of ours.

    `cpu_ms`: process -> milliseconds of CPU per order. Other load on the machine affects it less than a rate."""

    figures: Mapping[str, Any]
    foreign_percent: float
    cpu_ms: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Side:
    """The workers of one side, and how they are run. `batch_max` (None: the default) and `observed` apply to ours only."""

    name: str
    mode: Mode
    bare: bool = False
    batch_max: int | None = None
    observed: bool = False

    @property
    def prefix(self) -> str:
        return prefix_of(self.mode) if self.bare else str(self.mode)

    @property
    def workers(self) -> list[str]:
        return [*roles(self.mode), *([OBSERVER] if self.observed else [])]

    @property
    def queues(self) -> list[str]:
        return [queue_of(self.prefix, worker) for worker in self.workers]

    @property
    def observers_queues(self) -> list[str]:
        """The queues that an observer leaves behind, which would receive messages and cost time."""
        queue = queue_of(self.prefix, OBSERVER)
        return [queue, dropped_queue(queue)]

    def environment(self, base: Mapping[str, str]) -> dict[str, str]:
        """The environment of the workers, which log warnings and errors only."""
        batch = {"SAGA_BATCH_MAX": str(self.batch_max)} if self.batch_max else {}
        return {**base, "SAGA_LOG_LEVEL": "warning", **batch}

    def worker_command(self, worker: str) -> list[str]:
        if self.bare:
            return [*PYTHON, f"benchmarks.bare_{self.mode}", worker]
        return [*PYTHON, "cli", "worker", worker, "--mode", self.mode, "--faults"]

    def reset_command(self) -> list[str] | None:
        """The command that empties our databases and queues; None for a bare chain, whose load generator clears its book."""
        return None if self.bare else [*PYTHON, "cli", "reset", "--mode", self.mode, "--yes"]

    def storm_command(self, load: Load) -> list[str]:
        if self.bare:
            return [*PYTHON, "benchmarks.load", self.mode, str(load.orders), str(load.in_flight)]
        command = [*PYTHON, "cli", "storm", "--mode", self.mode, "--json", "--timeout", str(STORM_TIMEOUT_S)]
        command += ["--orders", str(load.orders), "--in-flight", str(load.in_flight)]
        command += ["--rate", str(load.rate)] if load.rate else []
        return command + [word for failure in load.failures for word in ("--fail", failure)]


@dataclass(slots=True)
class RunningSide:
    """A side whose workers run."""

    side: Side
    servers: Servers
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    _storm: subprocess.Popen[bytes] | None = None

    def reset(self) -> None:
        command = self.side.reset_command()
        if command:
            done = subprocess.run(command, check=False, env=self._env, capture_output=True, timeout=MARGIN_S)  # noqa: S603 - own command
            if done.returncode:
                raise RunFailed(f"`saga reset` ended with {done.returncode}: {done.stderr.decode()[-500:]}")

    def storm(self, load: Load) -> Run:
        """Reset, run a storm, and check its result. Raises RunFailed."""
        self.reset()
        meter = CpuMeter(self._processes)
        with meter.measuring():
            self._storm = subprocess.Popen(self.side.storm_command(load), env=self._env, stdout=subprocess.PIPE)  # noqa: S603 - own command
            output, _ = self._storm.communicate(timeout=STORM_TIMEOUT_S + MARGIN_S)
        if self._storm.returncode:
            raise RunFailed(
                f"{self.side.name}, {self.side.mode}: the storm ended with {self._storm.returncode}: {output.decode()[-500:]}"
            )
        figures = json.loads(output)
        self._check(load, figures)
        cpu_ms = {name: round(1000 * used_s / load.orders, 3) for name, used_s in meter.used_s().items()}
        return Run(figures, meter.foreign_percent(figures["seconds"]), cpu_ms)

    def _check(self, load: Load, figures: Mapping[str, Any]) -> None:
        dead = [name for name, process in self.processes.items() if process.poll() is not None]
        if dead:
            raise RunFailed(f"{self.side.name}, {self.side.mode}: {', '.join(dead)} died")
        if not load.failures and figures["completed"] != load.orders:
            raise RunFailed(f"{self.side.name}, {self.side.mode}: {figures['completed']} of {load.orders} orders completed")

    def _processes(self) -> dict[int, str]:
        storm = {self._storm.pid: "storm"} if self._storm else {}
        workers = {process.pid: name for name, process in self.processes.items()}
        return {os.getpid(): "benchmark", **self.servers.processes, **workers, **storm}

    @property
    def _env(self) -> dict[str, str]:
        return self.side.environment(self.servers.env)


@contextmanager
def up(
    side: Side, servers: Servers, warm_up: Load | None, commands: Mapping[str, list[str]] | None = None
) -> Iterator[RunningSide]:
    """Run the side's workers as processes, warmed up by a first storm; stop them at the end.

    `commands`: worker -> command that starts it, in place of the default."""
    live = RunningSide(side, servers)
    live.reset()
    with ExitStack() as stack:
        for worker in side.workers:
            command = (commands or {}).get(worker) or side.worker_command(worker)
            live.processes[worker] = stack.enter_context(_process(command, side.environment(servers.env)))
        asyncio.run(until_consumed(side.queues, 1))
        if warm_up:
            live.storm(warm_up)
        yield live
    asyncio.run(until_consumed(side.queues, 0))
    if side.observed:
        asyncio.run(delete(side.observers_queues, []))


@contextmanager
def _process(command: list[str], env: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """Run one worker. Its output is printed when it, or the block, fails."""
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(command, env=dict(env), stdout=output, stderr=subprocess.STDOUT)  # noqa: S603 - own command
        ended_well = False
        try:
            yield process
            ended_well = True
        finally:
            process.terminate()
            try:
                process.wait(timeout=15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.returncode or not ended_well:
                output.seek(0)
                sys.stderr.write(f"{' '.join(command)} ended with {process.returncode}:\n{output.read().decode()[-2000:]}\n")
