"""`saga up --mode M`: all workers of a mode and the payment gateway as local processes, kept running until told to stop.

Says what runs and what becomes of its lines; keeping it running is cli/supervisor.py.
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

#: Between two looks whether a payment gateway that somebody else runs still answers.
GATEWAY_POLL_S = 1.0

log = structlog.get_logger()


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command(epilog="Example: saga up --mode choreography")(up)


def up(
    mode: ModeFlag = Mode.ORCHESTRATOR,
    faults: Annotated[bool, typer.Option("--faults/--no-faults", help="Honour failures injected with an order.")] = True,
    observer: Annotated[bool, typer.Option("--observer/--no-observer", help="Write down what happens to each order.")] = True,
) -> None:
    """Run all workers of a mode, its observer and the payment gateway; restart what dies; Ctrl-C or SIGTERM ends them all."""
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
    # Nobody waits for the observer: it is begun first, and what it does not hear yet it says it has not heard.
    ready = asyncio.create_task(_log_when_ready([process for process in processes if process.name != OBSERVER]))
    try:
        await _wait_for_first(exit_code, *(process.supervision for process in processes))
    finally:
        ready.cancel()
        await asyncio.gather(*(process.terminate() for process in processes))
    for process in processes:
        if process.supervision.done() and not process.supervision.cancelled():
            process.supervision.result()  # raises what went wrong with the keeping itself
    return exit_code.result()


def _command(name: str, mode: Mode, *, faults: bool) -> list[str]:
    flag = "--faults" if faults else "--no-faults"
    return [sys.executable, "-m", "cli", "worker", name, "--mode", mode, "--tied", flag]


def _request_stop(exit_code: "asyncio.Future[int]", code: int) -> None:
    if not exit_code.done():
        exit_code.set_result(code)


async def _completes_before_stop(exit_code: "asyncio.Future[int]", work: Coroutine[Any, Any, None]) -> bool:
    """Whether `work` came to its end before somebody told us to stop. Raises what it raises."""
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
    """Declare the furniture and open a store, so that what is missing is said once and at once."""
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
            "End it, set SAGA_GATEWAY_URL to another, or use --no-faults.",
        )


async def _share_gateway(process: SupervisedProcess, *, url: str, faults: bool) -> None:
    """Use the payment gateway of another `saga up` for as long as it answers; then it is for us to run one."""
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
    """A child's line: JSON for scripts, prefixed and short for people. What is no event (a traceback, say) becomes one."""
    text = line.decode(errors="replace").rstrip()
    if not text:
        return
    event = _parse_event(text)
    if event is None:
        event = {"event": "said", "said": text, "mode": str(mode), "service": process.name}
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
