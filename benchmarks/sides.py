"""The two sides of every comparison: our workers and the bare chain's, as processes, with storms fired at them.

A side is started, warmed up, emptied, stormed and stopped; two sides are never up at the same time. A storm in
which an order did not complete, or whose audit failed, is no measurement and ends the benchmark.
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
#: Seconds until the orders of a storm that have not ended are given up, and what its process may take beyond that.
STORM_TIMEOUT_S, MARGIN_S = 180, 60


class RunFailed(Exception):  # noqa: N818 - it names what happened
    """A run that measured nothing: something died, or not every order ended as it should."""


@dataclass(frozen=True, slots=True)
class Load:
    """One storm, as `saga storm` takes it."""

    orders: int
    in_flight: int
    rate: float | None = None
    failures: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Run:
    """What a storm reported, the share of the machine that others took meanwhile, and what each of our processes took.

    `cpu_ms` is process -> milliseconds of CPU an order. It changes less with what else runs than a rate does."""

    figures: Mapping[str, Any]
    foreign_percent: float
    cpu_ms: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Side:
    """Whose workers, and how they are run. `batch_max` and `observed` are for ours only; None leaves the default."""

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
        """What an observer leaves, and what would go on costing something."""
        queue = queue_of(self.prefix, OBSERVER)
        return [queue, dropped_queue(queue)]

    def environment(self, base: Mapping[str, str]) -> dict[str, str]:
        """Workers that say only what is wrong, as a busy system's would."""
        batch = {"SAGA_BATCH_MAX": str(self.batch_max)} if self.batch_max else {}
        return {**base, "SAGA_LOG_LEVEL": "warning", **batch}

    def worker_command(self, worker: str) -> list[str]:
        if self.bare:
            return [*PYTHON, f"benchmarks.bare_{self.mode}", worker]
        return [*PYTHON, "cli", "worker", worker, "--mode", self.mode, "--faults"]

    def reset_command(self) -> list[str] | None:
        """Ours has databases to empty; the bare chain has nothing that its load generator does not empty."""
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
    """A side whose workers are up."""

    side: Side
    servers: Servers
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    _storm: subprocess.Popen[bytes] | None = None

    def reset(self) -> None:
        command = self.side.reset_command()
        if command:
            done = subprocess.run(command, check=False, env=self._env, capture_output=True, timeout=MARGIN_S)  # noqa: S603 - our own
            if done.returncode:
                raise RunFailed(f"`saga reset` ended with {done.returncode}: {done.stderr.decode()[-500:]}")

    def storm(self, load: Load) -> Run:
        """Empty everything, fire, and check that all of it happened."""
        self.reset()
        meter = CpuMeter(self._processes)
        with meter.measuring():
            self._storm = subprocess.Popen(self.side.storm_command(load), env=self._env, stdout=subprocess.PIPE)  # noqa: S603 - our own
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
    """The side's workers as processes, each consuming its queue, warmed up by a first storm; stopped at the end.

    `commands` replaces how each worker is started."""
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
    """One worker. What it says is shown if it, or the run, does not end well."""
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(command, env=dict(env), stdout=output, stderr=subprocess.STDOUT)  # noqa: S603 - our own
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
