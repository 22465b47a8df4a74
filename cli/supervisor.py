"""Child processes: each is started again when it dies, and is heard until its last line.

Knows processes and lines, nothing of modes. `saga up` and `saga chaos` say what to run and what becomes of the lines.
"""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import structlog

#: How long a child may take to end before it is killed.
GRACE_S = 10.0
#: The pause before a child that died is started again: doubled each time, forgotten once it has lived for a while.
FIRST_PAUSE_S, LONGEST_PAUSE_S, STABLE_AFTER_S = 0.2, 5.0, 10.0
#: The longest line a child may print, in bytes. A traceback in a log line is far from it.
LINE_MAX_BYTES = 1 << 20

log = structlog.get_logger()


@dataclass(slots=True)
class SupervisedProcess:
    """One process that is kept running, whichever incarnation it is in.

    `hear` is given each line it prints, on either stream. `before` is awaited before each start. `env` is added to this process's
    own environment."""

    name: str
    command: Sequence[str]
    on_line: Callable[["SupervisedProcess", bytes], None]
    before_start: Callable[["SupervisedProcess"], Awaitable[None]] | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    #: Set by whoever learns that it is at work, from its lines or otherwise.
    started: asyncio.Event = field(default_factory=asyncio.Event)
    supervision: "asyncio.Task[None]" = field(init=False)
    _process: asyncio.subprocess.Process | None = None
    #: Gets the exit code of the present life.
    _exit_code: "asyncio.Future[int]" = field(init=False)
    _terminating: bool = False

    def start(self) -> None:
        self.supervision = asyncio.create_task(self._supervise(), name=self.name)

    @property
    def pid(self) -> int | None:
        """Of the present life; None between two lives."""
        return self._process.pid if self._process else None

    def send(self, number: signal.Signals) -> bool:
        """Signal it and all that it started: a wrapper such as `faketime` is not the worker. False if there is nobody."""
        if self._process is None or self._process.returncode is not None:
            return False
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)
        return True

    async def kill(self) -> int | None:
        """`kill -9`. Gives the exit code of the life that ended (-9, unless it ended by itself just then); None between lives."""
        return await asyncio.shield(self._exit_code) if self.send(signal.SIGKILL) else None

    async def terminate(self, grace_s: float = GRACE_S) -> None:
        """Ask it to end and hear it out; after a while (at once, if that is 0) make it."""
        self._terminating = True
        if self._process is None:  # between two lives, or not begun
            self.supervision.cancel()
        elif grace_s:
            self.send(signal.SIGTERM)
        done, _ = await asyncio.wait([self.supervision], timeout=grace_s)
        if not done:
            self.send(signal.SIGKILL)
            await asyncio.wait([self.supervision], timeout=1)

    async def _supervise(self) -> None:
        """Start it, and start it again whenever it dies."""
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
        """One life; gives its exit code."""
        self._process = process = await asyncio.create_subprocess_exec(
            *self.command,
            stdin=asyncio.subprocess.PIPE,  # never written to: its end tells the child that this process is gone
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={**os.environ, **self.env, "PYTHONUNBUFFERED": "1"},
            start_new_session=True,  # a group of its own: Ctrl-C is for this process, which ends its children in good order
            limit=LINE_MAX_BYTES,
        )
        self._exit_code = asyncio.get_running_loop().create_future()
        assert process.stdout is not None  # noqa: S101 - asked for above
        async for line in process.stdout:
            self.on_line(self, line)
        code = await process.wait()
        self._process = None
        self._exit_code.set_result(code)
        return code
