"""Process lifecycle: event loop, ready file, signals, parent death.

Shared by workers, the observer, the payment gateway and the HTTP API.
"""

import asyncio
import gc
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import structlog

from cli.output import Code

#: Seconds that a process may take to shut down before it exits without waiting. A server that does not answer would hold it for
#: longer, and the broker redelivers the messages that it has in hand.
DRAIN_S = 9.0

#: Allocations between two runs of the garbage collector. A batch makes thousands of objects, and hardly any in cycles.
GC_THRESHOLD = 20_000

log = structlog.get_logger()


def run_on_uvloop(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine on uvloop, which is 5 to 8 % faster; on asyncio where there is no uvloop (as on Windows)."""
    # Loaded modules stay until the end, so the garbage collector need not visit them again.
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD)
    try:
        import uvloop  # noqa: PLC0415 - optional
    except ImportError:
        asyncio.run(coroutine)
    else:
        uvloop.run(coroutine)


@asynccontextmanager
async def maintain_ready_file(ready: asyncio.Event, file: Path | None) -> AsyncIterator[None]:
    """Create the ready file once `ready` is set; remove it when the block ends."""
    creation = asyncio.create_task(_create_ready_file(ready, file))
    try:
        yield
    finally:
        creation.cancel()
        remove_ready_file(file)


async def _create_ready_file(ready: asyncio.Event, file: Path | None) -> None:
    await ready.wait()
    if file:
        await asyncio.to_thread(file.touch)


def remove_ready_file(file: Path | None) -> None:
    if file:
        file.unlink(missing_ok=True)


def stop_on_signal(finish: Callable[[], None], *, tied_to_parent: bool) -> None:
    """Call `finish` on SIGTERM and SIGINT, and exit DRAIN_S later if the process still runs.

    `tied_to_parent`: also when the parent process dies."""

    def on_signal() -> None:
        finish()
        exit_after_drain_timeout()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    if tied_to_parent:
        stop_with_parent()


def exit_after_drain_timeout() -> None:
    """Exit in DRAIN_S seconds without cleaning up, unless the process has ended before."""
    # A thread, because at exit Python waits for the database driver's threads, which wait for the server.
    timer = threading.Timer(DRAIN_S, _exit_now)
    timer.daemon = True
    timer.start()


def _exit_now() -> None:
    log.warning("drain_timed_out", after_s=DRAIN_S)
    os._exit(Code.FAILED)


def stop_with_parent() -> None:
    """Send SIGTERM to this process when its parent dies. The parent holds the other end of stdin and never writes to it."""

    def watch() -> None:
        while os.read(sys.stdin.fileno(), 1024):  # not through sys.stdin: shutdown would wait for its lock
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True, name="parent-watch").start()
