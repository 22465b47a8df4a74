"""Supervised child processes: each is restarted when it dies, and its output is read to the last line.

Knows nothing of modes; `saga up` and `saga chaos` choose what to run and what to do with each line.
"""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import structlog

#: Seconds that a child may take to end before it is killed.
GRACE_S = 10.0
#: Backoff in seconds before a restart: doubled each time, and back to the first once a child has run for STABLE_AFTER_S.
FIRST_PAUSE_S, LONGEST_PAUSE_S, STABLE_AFTER_S = 0.2, 5.0, 10.0
#: The longest line a child may print, in bytes. A traceback in a log line is far shorter.
LINE_MAX_BYTES = 1 << 20

log = structlog.get_logger()


@dataclass(slots=True)
class SupervisedProcess:
    """One process that is kept running, through all its restarts.

    `on_line` is called with each line of stdout and stderr. `before_start` is awaited before each start. `env` is added to the
    environment of this process."""

    name: str
    command: Sequence[str]
    on_line: Callable[["SupervisedProcess", bytes], None]
    before_start: Callable[["SupervisedProcess"], Awaitable[None]] | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    #: Set by the owner once the process is at work; the supervisor does not set it.
    started: asyncio.Event = field(default_factory=asyncio.Event)
    supervision: "asyncio.Task[None]" = field(init=False)
    _process: asyncio.subprocess.Process | None = None
    #: The exit code of the current run.
    _exit_code: "asyncio.Future[int]" = field(init=False)
    _terminating: bool = False

    def start(self) -> None:
        self.supervision = asyncio.create_task(self._supervise(), name=self.name)

    @property
    def pid(self) -> int | None:
        """The process id of the current run; None between two runs."""
        return self._process.pid if self._process else None

    def send(self, number: signal.Signals) -> bool:
        """Signal the process and its children (a wrapper such as `faketime` is not the worker). False if it does not run."""
        if self._process is None or self._process.returncode is not None:
            return False
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)
        return True

    async def kill(self) -> int | None:
        """Send SIGKILL. Returns the exit code of the run that ended (-9, unless it ended by itself); None between two runs."""
        return await asyncio.shield(self._exit_code) if self.send(signal.SIGKILL) else None

    async def terminate(self, grace_s: float = GRACE_S) -> None:
        """Send SIGTERM and read the output to its end; after `grace_s` send SIGKILL. With `grace_s` 0 kill at once."""
        self._terminating = True
        if self._process is None:  # between two runs, or not started
            self.supervision.cancel()
        elif grace_s:
            self.send(signal.SIGTERM)
        done, _ = await asyncio.wait([self.supervision], timeout=grace_s)
        if not done:
            self.send(signal.SIGKILL)
            await asyncio.wait([self.supervision], timeout=1)

    async def _supervise(self) -> None:
        """Start the process, and restart it each time it dies, until `terminate`."""
        loop = asyncio.get_running_loop()
        pause_s = FIRST_PAUSE_S
        while True:
            if self.before_start:
                await self.before_start(self)
            began = loop.time()
            code = await self._run_once()
            if self._terminating:
                return
            if loop.time() - began > STABLE_AFTER_S:
                pause_s = FIRST_PAUSE_S
            log.warning("worker_restarted", worker=self.name, exit_code=code, after_s=pause_s)
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    async def _run_once(self) -> int:
        """Run the process once. Returns its exit code."""
        self._process = process = await asyncio.create_subprocess_exec(
            *self.command,
            stdin=asyncio.subprocess.PIPE,  # never written to: the child sees its end when this process dies
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={**os.environ, **self.env, "PYTHONUNBUFFERED": "1"},
            start_new_session=True,  # a process group of its own: Ctrl-C reaches the supervisor, which shuts its children down
            limit=LINE_MAX_BYTES,
        )
        self._exit_code = asyncio.get_running_loop().create_future()
        assert process.stdout is not None  # noqa: S101 - a pipe, see above
        async for line in process.stdout:
            self.on_line(self, line)
        code = await process.wait()
        self._process = None
        self._exit_code.set_result(code)
        return code
