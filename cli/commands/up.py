"""`saga up --mode M`: runs all workers of a mode, its observer and the payment gateway as supervised local processes.

Chooses the processes and forwards their output; cli/supervisor.py restarts them.
"""

import asyncio
import json
import signal
import sys
from collections.abc import Coroutine
from functools import partial
from typing import Annotated, Any

import structlog
import typer

from bootstrap.gateway_books import gateway_health
from bootstrap.modes import Mode, roles, topology
from broker.transport import declare_or_check
from cli.logs import as_text, configure
from cli.options import GATEWAY, ModeFlag
from cli.output import Code, data, run, stop
from cli.settings import Settings, load
from cli.supervisor import SupervisedProcess
from observer.recorder import NAME as OBSERVER

#: Seconds between two health checks of a payment gateway that another `saga up` runs.
GATEWAY_POLL_S = 1.0

log = structlog.get_logger()


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command(epilog="Example: saga up --mode choreography")(up)


def up(
    mode: ModeFlag = Mode.ORCHESTRATOR,
    faults: Annotated[bool, typer.Option("--faults/--no-faults", help="Honour failures injected with an order.")] = True,
    observer: Annotated[bool, typer.Option("--observer/--no-observer", help="Record the history of each order.")] = True,
) -> None:
    """Run all workers of a mode, its observer and the payment gateway, and restart what dies, until SIGTERM or Ctrl-C."""
    settings = load()
    configure(settings.log_level, mode=mode, service="up")
    code = run(_up(mode, settings, faults=faults, observer=observer))
    if code:
        stop(Code(code), "interrupted; all workers have ended.")


async def _up(mode: Mode, settings: Settings, *, faults: bool, observer: bool) -> int:
    exit_code: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    for number, code in ((signal.SIGINT, int(Code.INTERRUPTED)), (signal.SIGTERM, 0)):
        asyncio.get_running_loop().add_signal_handler(number, _request_stop, exit_code, code)
    if not await _completes_before_stop(exit_code, _check_servers(mode, settings, faults=faults)):
        return exit_code.result()
    share_gateway = partial(_share_gateway, url=settings.gateway_url, faults=faults)
    processes = [
        SupervisedProcess(
            name, _command(name, mode, faults=faults), partial(_forward_line, mode), share_gateway if name == GATEWAY else None
        )
        for name in (*((OBSERVER,) if observer else ()), GATEWAY, *roles(mode))
    ]
    for process in processes:
        process.start()
    # The observer is started first, but not waited for: its histories name the messages that it missed.
    ready = asyncio.create_task(_log_when_ready([process for process in processes if process.name != OBSERVER]))
    try:
        await _wait_for_first(exit_code, *(process.supervision for process in processes))
    finally:
        ready.cancel()
        await asyncio.gather(*(process.terminate() for process in processes))
    for process in processes:
        if process.supervision.done() and not process.supervision.cancelled():
            process.supervision.result()  # raises an error of the supervision itself
    return exit_code.result()


def _command(name: str, mode: Mode, *, faults: bool) -> list[str]:
    flag = "--faults" if faults else "--no-faults"
    return [sys.executable, "-m", "cli", "worker", name, "--mode", mode, "--tied", flag]


def _request_stop(exit_code: "asyncio.Future[int]", code: int) -> None:
    if not exit_code.done():
        exit_code.set_result(code)


async def _completes_before_stop(exit_code: "asyncio.Future[int]", work: Coroutine[Any, Any, None]) -> bool:
    """Whether `work` completes before a signal asks for a shutdown. Raises what `work` raises."""
    task = asyncio.create_task(work)
    await _wait_for_first(exit_code, task)
    if task.done():
        task.result()
        return True
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return False


async def _wait_for_first(*awaited: "asyncio.Future[Any]") -> None:
    await asyncio.wait(awaited, return_when=asyncio.FIRST_COMPLETED)


async def _check_servers(mode: Mode, settings: Settings, *, faults: bool) -> None:
    """Declare the topology and open a store, so that a missing server is reported once, before any worker starts."""
    backend = settings.backend(mode)
    transport, store = backend.transport("up"), backend.store("order")
    try:
        await transport.open()
        await declare_or_check(transport, topology(mode))
        await store.open([])
    finally:
        await transport.close()
        await store.close()
    health = await gateway_health(settings.gateway_url)
    if faults and health and health.get("faults") is False:
        stop(
            Code.USAGE,
            f"the payment gateway that runs at {settings.gateway_url} has faults disabled, so payment failures would do nothing. "
            "Stop it, set SAGA_GATEWAY_URL to another address, or use --no-faults.",
        )


async def _share_gateway(process: SupervisedProcess, *, url: str, faults: bool) -> None:
    """Use the payment gateway of another `saga up` for as long as it answers. Returns when this one has to run its own."""
    logged = False
    while health := await gateway_health(url):
        if not logged:
            log.info("gateway_shared", url=url)
            if faults and health.get("faults") is False:
                log.warning("gateway_without_faults", url=url)
            process.started.set()
            logged = True
        await asyncio.sleep(GATEWAY_POLL_S)


def _forward_line(mode: Mode, process: SupervisedProcess, line: bytes) -> None:
    """Print a child's line: JSON for scripts, short text for people. Other lines, as of a traceback, become events."""
    text = line.decode(errors="replace").rstrip()
    if not text:
        return
    event = _parse_event(text)
    if event is None:
        event = {"event": "output_line", "text": text, "mode": str(mode), "service": process.name}
        text = json.dumps(event)
    if event.get("event") == "started":
        process.started.set()
    if sys.stdout.isatty():
        data.print(as_text(event), soft_wrap=True)
    else:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()


def _parse_event(line: str) -> dict[str, Any] | None:
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) else None


async def _log_when_ready(processes: list[SupervisedProcess]) -> None:
    for process in processes:
        await process.started.wait()
    log.info("ready", workers=[process.name for process in processes])
