"""How a process of ours runs: as fast as it can, marked once it is ready, and until it is told to stop or orphaned.

What a worker, the observer, the payment gateway and the door have in common.
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

#: How long a worker that was told to stop may take before it ends as if it had been killed: a server that does not answer would
#: hold it for longer, and what it has in hand comes again elsewhere anyway.
DRAIN_S = 9.0

#: Allocations between two looks of the garbage collector; a batch makes thousands of objects, and hardly any in cycles.
GC_THRESHOLD = 20_000

log = structlog.get_logger()


def run_on_uvloop(coroutine: Coroutine[Any, Any, None]) -> None:
    """On uvloop, which is 5 to 8 % faster, where it can be had: there is none for Windows."""
    # What is loaded by now stays: the collector need not look at it again, nor as often at what a batch allocates.
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
    """The ready file is there while the block runs, once it is ready."""
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
    def on_signal() -> None:
        finish()
        exit_after_drain_timeout()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    if tied_to_parent:
        stop_with_parent()


def exit_after_drain_timeout() -> None:
    """End this process as if it were killed, if it has not ended by itself before."""
    # A thread, because at the end of a process Python waits for the driver's threads, and they for the server.
    timer = threading.Timer(DRAIN_S, _exit_now)
    timer.daemon = True
    timer.start()


def _exit_now() -> None:
    log.warning("ended_with_work_in_hand", after_s=DRAIN_S)
    os._exit(Code.FAILED)


def stop_with_parent() -> None:
    """Whoever started this holds the other end of stdin and never writes: when it ends, they were killed."""

    def watch() -> None:
        while os.read(sys.stdin.fileno(), 1024):  # not through sys.stdin, whose lock a shutdown would wait for
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True, name="orphan-watch").start()
