"""The cluster of one run: private servers, TCP proxies in front of them, and the workers of a mode, as processes.

Workers reach broker, database and gateway through the proxies. The caller supplies `spawn`, which makes a supervised process.
Every process ends when the cluster's context is left.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from bootstrap.modes import Mode, roles
from lab.chaos.disks import small_disk
from lab.chaos.evidence import Evidence
from lab.chaos.nemesis import ManagedProcess
from lab.chaos.schedule import BROKER, DATABASE, GATEWAY
from lab.chaos.servers import ProcessSpec, Servers, raise_open_files_limit, wait_until, worker_command
from lab.chaos.tcp_proxy import TcpProxy

#: Seconds a server or worker may take to become ready.
START_TIMEOUT_S = 60.0
#: Short timeouts for the workers, so that they fire during a run and its orders end soon.
TIMES = {"SAGA_DEADLINE_S": "15", "SAGA_AUTHORIZE_TIMEOUT_S": "5", "SAGA_POLL_INTERVAL_S": "1", "SAGA_GATEWAY_TIMEOUT_S": "0.8"}


class StartFailed(Exception):  # noqa: N818 - it names what happened
    """A server or worker did not become ready in time. The message names its log."""


class Spawn(Protocol):
    """Makes a supervised process, not started yet. `on_line` receives its name and each line of its output."""

    def __call__(self, spec: ProcessSpec, on_line: Callable[[str, bytes], None]) -> ManagedProcess: ...


@dataclass(slots=True)
class Cluster:
    """The cluster, with its data and logs in the folder `home`.

    `skew_commands`: worker -> a prefix of its command, such as `faketime`.
    `notes`: requested faults that this machine does not support."""

    mode: Mode
    home: Path
    spawn: Spawn
    full_disk: bool = False
    skew_commands: Mapping[str, Sequence[str]] = field(default_factory=dict)
    servers: Servers = field(init=False)
    evidence: Evidence = field(init=False)
    processes: dict[str, ManagedProcess] = field(default_factory=dict)
    proxies: dict[str, TcpProxy] = field(default_factory=dict)
    disks: dict[str, Path] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    _specs: Sequence[ProcessSpec] = ()

    @asynccontextmanager
    async def set_up(self) -> AsyncIterator[None]:
        """Start servers, proxies and workers, in this order, each ready before the next. Raises NotInstalled, StartFailed."""
        self.servers = Servers.in_folder(self.home)
        (self.home / "log").mkdir(parents=True, exist_ok=True)
        self.evidence = Evidence(self.home / "log")
        raise_open_files_limit()
        async with AsyncExitStack() as stack:
            if self.full_disk:
                await self._mount_small_disk(GATEWAY, stack)
            stack.push_async_callback(self._end)
            self._specs = self.servers.process_specs(self.mode)
            for spec in self._specs:
                self._run(spec)
                await self._until_ready(spec)
            ports = {BROKER: self.servers.broker_port, DATABASE: self.servers.database_port, GATEWAY: self.servers.gateway_port}
            for name, port in ports.items():
                self.proxies[name] = await stack.enter_async_context(TcpProxy(port))
            await self._start_workers()
            yield

    async def wait_for_servers(self) -> None:
        """Wait until every server is ready. Raises StartFailed."""
        for spec in self._specs:
            await self._until_ready(spec)

    async def _mount_small_disk(self, name: str, stack: AsyncExitStack) -> None:
        reason = await stack.enter_async_context(small_disk(self.servers.folder_of(name)))
        if reason:
            self.notes.append(reason)
        else:
            self.disks[name] = self.servers.folder_of(name)

    async def _start_workers(self) -> None:
        env = {
            "SAGA_BROKER_URL": self.servers.broker_url(self.proxies[BROKER].port),
            "SAGA_STORE_URL": self.servers.store_url(self.proxies[DATABASE].port),
            "SAGA_GATEWAY_URL": self.servers.gateway_url(self.proxies[GATEWAY].port),
            "SAGA_LOG_LEVEL": "info",
            **TIMES,
        }
        for name in roles(self.mode):
            self._run(ProcessSpec(name, [*self.skew_commands.get(name, ()), *worker_command(name, self.mode)], env))
        for name in roles(self.mode):
            await self._until(lambda: self.evidence.starts[name] > 0, name)  # noqa: B023 - awaited at once

    def _run(self, spec: ProcessSpec) -> None:
        process = self.spawn(spec, self.evidence.record_line)
        self.processes[spec.name] = process
        process.start()

    async def _until_ready(self, spec: ProcessSpec) -> None:
        if spec.ready is not None:
            await self._until(spec.ready, spec.name)

    async def _until(self, ready: Callable[[], bool | Awaitable[bool]], name: str) -> None:
        if not await wait_until(ready, START_TIMEOUT_S):
            raise StartFailed(f"{name} was not ready within {START_TIMEOUT_S:g} s; its log is {self.home / 'log' / name}.log")

    async def _end(self) -> None:
        """Terminate every process without grace: the run has been judged, and its data is discarded."""
        await asyncio.gather(*(process.terminate(0.0) for process in self.processes.values()))
