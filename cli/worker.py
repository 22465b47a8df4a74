"""`saga worker NAME --mode M`: one worker, or the payment gateway, in this process until it is told to stop.

Room: cli/. The composition of one worker: its role from its mode, its clients from the settings.
"""

import asyncio
import gc
import os
import signal
import socket
import sqlite3
import sys
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn

import structlog
import typer
from yarl import URL

from broker.transport import Transport, furnish
from broker.worker import Worker, no_calls
from cli.logs import configure
from cli.order import ModeFlag
from cli.output import Code, ending, listen, stop
from cli.settings import Settings, load
from gateway.server import serve
from lab.connected import ConnectedParts
from lab.modes import Mode, roles, topology
from lab.system import calling
from observer.ear import NAME as OBSERVER
from observer.ear import Observer
from page.observed import ObservedLane
from page.server import served_to_door
from store.document import Record
from store.mongo import MongoStore
from store.mongo_checks import clock_ahead_s

GATEWAY = "gateway"
#: How long a worker that was told to stop may take before it ends as if it had been killed: a server that does not answer would
#: hold it for longer, and what it has in hand comes again elsewhere anyway.
DRAIN_S = 9.0

#: Allocations between two looks of the garbage collector; a batch makes thousands of objects, and hardly any in cycles.
GC_THRESHOLD = 20_000

log = structlog.get_logger()


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command(epilog="Example: saga worker inventory --mode choreography")(worker)


def worker(
    name: Annotated[
        str, typer.Argument(help="order, inventory, payment, delivery, coordinator (orchestrator only), observer or gateway.")
    ],
    mode: ModeFlag = Mode.ORCHESTRATOR,
    faults: Annotated[
        bool | None, typer.Option("--faults/--no-faults", help="Honour injected failures (default: SAGA_FAULTS, else off).")
    ] = None,
    tied: Annotated[bool, typer.Option("--tied", hidden=True, help="Stop when stdin ends.")] = False,
    host: Annotated[str, typer.Option(envvar="SAGA_GATEWAY_HOST", help="Where gateway or observer listen.")] = "127.0.0.1",
) -> None:
    """Run one worker of a mode, its observer, or the payment gateway, until SIGTERM or Ctrl-C."""
    settings = load()
    honoured = settings.faults if faults is None else faults
    configure(settings.log_level, mode=mode, service=name)
    if name == GATEWAY:
        _serve_gateway(settings, host, faults=honoured, tied=tied)
        return
    names = list(roles(mode))
    if name not in (*names, OBSERVER):
        why = "in choreography there is no coordinator. " if name == "coordinator" else ""
        stop(Code.USAGE, f"the {mode} mode has no worker {name!r}: {why}It has {', '.join(names)}, {OBSERVER}, and {GATEWAY}.")
    with ending():
        if name == OBSERVER:
            run_fast(_observe(mode, settings, host, tied=tied))
        else:
            run_fast(_work(mode, name, settings, faults=honoured, tied=tied))


def run_fast(program: Coroutine[Any, Any, None]) -> None:
    """On uvloop, which is 5 to 8 % faster, where it can be had: there is none for Windows."""
    # What is loaded by now stays: the collector need not look at it again, nor as often at what a batch allocates.
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD)
    try:
        import uvloop  # noqa: PLC0415 - optional
    except ImportError:
        asyncio.run(program)
    else:
        uvloop.run(program)


async def _work(mode: Mode, name: str, settings: Settings, *, faults: bool, tied: bool) -> None:
    _unmark(settings.ready_file)  # one that was killed left its mark, and a container that is started again still has it
    parts = settings.parts(mode)
    transport, store, gateway = parts.transport(name), parts.store(name), parts.gateway()
    await _prepare(mode, name, parts, transport, store, faults=faults)
    running = Worker(
        roles(mode, parts.times)[name],
        topology(mode),
        transport,
        store,
        sources=parts.sources,
        caller=calling(gateway) if name == "payment" else no_calls,
        limits=parts.limits,
        faults=faults,
    )
    _stop_on_signal(running.stop, tied=tied)
    try:
        async with _marked(running.ready, settings.ready_file):
            await running.run()
    finally:
        await gateway.close()
        await transport.close()
        await store.close()
    log.info("stopped")


async def _prepare(
    mode: Mode, name: str, parts: ConnectedParts, transport: Transport, store: MongoStore, *, faults: bool
) -> None:
    """Furniture on the broker, and a note in the store: whether injected failures will act here, and how the clock goes."""
    await transport.open()
    await furnish(transport, topology(mode))
    await store.open([])
    await store.free_what_the_dead_hold()
    now = parts.sources.now
    said = {"faults": faults, "started_at": now(), "clock_ahead_s": await clock_ahead_s(store.connection, now)}
    await store.put([Record("workers", name, 1, said)])


async def _observe(mode: Mode, settings: Settings, host: str, *, tied: bool) -> None:
    """The observer, and what the page at the door is shown of it.

    It does not free what a dead one held: that would end the transactions of the others, and it can wait."""
    _unmark(settings.ready_file)
    parts = settings.parts(mode)
    transport, store = parts.transport(OBSERVER), parts.store(OBSERVER)
    lane = ObservedLane(mode, transport, store, parts.sources.now)
    running = Observer(topology(mode), transport, store, parts.sources, written=lane.heard.note)
    _stop_on_signal(running.stop, tied=tied)
    try:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(_marked(running.ready, settings.ready_file))
            if settings.observer_url:
                await stack.enter_async_context(served_to_door(lane, _observers_port(settings, host)))
            await running.run()
    finally:
        await transport.close()
        await store.close()
    log.info("stopped")


def _observers_port(settings: Settings, host: str) -> socket.socket:
    port = URL(settings.observer_url).port or 80
    instead = "Set SAGA_OBSERVER_URL to another."
    return listen(host, port, backlog=128, failing="the observer cannot serve", instead=instead)


@asynccontextmanager
async def _marked(ready: asyncio.Event, file: Path | None) -> AsyncIterator[None]:
    """The ready file is there while the block runs, once it is ready."""
    marking = asyncio.create_task(_mark_ready(ready, file))
    try:
        yield
    finally:
        marking.cancel()
        _unmark(file)


async def _mark_ready(ready: asyncio.Event, file: Path | None) -> None:
    await ready.wait()
    if file:
        await asyncio.to_thread(file.touch)


def _unmark(file: Path | None) -> None:
    if file:
        file.unlink(missing_ok=True)


def _stop_on_signal(finish: Callable[[], None], *, tied: bool) -> None:
    def told() -> None:
        finish()
        end_within_patience()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told)
    if tied:
        _stop_when_orphaned()


def end_within_patience() -> None:
    """End this process as if it were killed, if it has not ended by itself before."""
    # A thread, because at the end of a process Python waits for the driver's threads, and they for the server.
    patience = threading.Timer(DRAIN_S, _give_up)
    patience.daemon = True
    patience.start()


def _give_up() -> None:
    log.warning("ended_with_work_in_hand", after_s=DRAIN_S)
    os._exit(Code.FAILED)


def _stop_when_orphaned() -> None:
    """Whoever started this holds the other end of stdin and never writes: when it ends, they were killed."""

    def watch() -> None:
        while os.read(sys.stdin.fileno(), 1024):  # not through sys.stdin, whose lock a shutdown would wait for
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True, name="orphan-watch").start()


def _serve_gateway(settings: Settings, host: str, *, faults: bool, tied: bool) -> None:
    if tied:
        _stop_when_orphaned()
    books = settings.gateway_books
    port = URL(settings.gateway_url).port or 80
    try:
        books.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        _no_books(books, error.strerror)
    try:
        serve(
            host,
            port,
            books,
            faults=faults,
            settle_after_s=settings.settle_after_s,
            announce=lambda url: log.info("started", url=url, faults=faults),
        )
    except OSError as error:
        stop(
            Code.FAILED, f"the payment gateway cannot serve on {host}:{port}: {error.strerror}. Set SAGA_GATEWAY_URL to another."
        )
    except sqlite3.Error as error:
        _no_books(books, str(error))


def _no_books(books: Path, why: str | None) -> NoReturn:
    stop(Code.FAILED, f"the payment gateway cannot keep its books in {books}: {why}. Set SAGA_GATEWAY_BOOKS to another file.")
