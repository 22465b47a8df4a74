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
from broker.transport import furnish
from cli.logs import as_text, configure
from cli.options import GATEWAY, ModeFlag
from cli.output import Code, data, run, stop
from cli.settings import Settings, load
from cli.supervisor import Child
from observer.recorder import NAME as OBSERVER

#: Between two looks whether a payment gateway that somebody else runs still answers.
LOOK_S = 1.0

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
    told: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    for number, code in ((signal.SIGINT, int(Code.INTERRUPTED)), (signal.SIGTERM, 0)):
        asyncio.get_running_loop().add_signal_handler(number, _tell, told, code)
    if not await _unless_told(told, _check_servers(mode, settings, faults=faults)):
        return told.result()
    share = partial(_share_gateway, url=settings.gateway_url, faults=faults)
    children = [
        Child(name, _command(name, mode, faults=faults), partial(_hear, mode), share if name == GATEWAY else None)
        for name in (*((OBSERVER,) if observer else ()), GATEWAY, *roles(mode))
    ]
    for child in children:
        child.start()
    # Nobody waits for the observer: it is begun first, and what it does not hear yet it says it has not heard.
    ready = asyncio.create_task(_say_when_ready([child for child in children if child.name != OBSERVER]))
    try:
        await _first_of(told, *(child.keeper for child in children))
    finally:
        ready.cancel()
        await asyncio.gather(*(child.end() for child in children))
    for child in children:
        if child.keeper.done() and not child.keeper.cancelled():
            child.keeper.result()  # raises what went wrong with the keeping itself
    return told.result()


def _command(name: str, mode: Mode, *, faults: bool) -> list[str]:
    flag = "--faults" if faults else "--no-faults"
    return [sys.executable, "-m", "cli", "worker", name, "--mode", mode, "--tied", flag]


def _tell(told: "asyncio.Future[int]", code: int) -> None:
    if not told.done():
        told.set_result(code)


async def _unless_told(told: "asyncio.Future[int]", work: Coroutine[Any, Any, None]) -> bool:
    """Whether `work` came to its end before somebody told us to stop. Raises what it raises."""
    task = asyncio.create_task(work)
    await _first_of(told, task)
    if task.done():
        task.result()
        return True
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return False


async def _first_of(*awaited: "asyncio.Future[Any]") -> None:
    await asyncio.wait(awaited, return_when=asyncio.FIRST_COMPLETED)


async def _check_servers(mode: Mode, settings: Settings, *, faults: bool) -> None:
    """Declare the furniture and open a store, so that what is missing is said once and at once."""
    parts = settings.parts(mode)
    transport, store = parts.transport("up"), parts.store("order")
    try:
        await transport.open()
        await furnish(transport, topology(mode))
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


async def _share_gateway(child: Child, *, url: str, faults: bool) -> None:
    """Use the payment gateway of another `saga up` for as long as it answers; then it is for us to run one."""
    said = False
    while health := await gateway_health(url):
        if not said:
            log.info("gateway_shared", url=url)
            if faults and health.get("faults") is False:
                log.warning("gateway_without_faults", url=url)
            child.started.set()
            said = True
        await asyncio.sleep(LOOK_S)


def _hear(mode: Mode, child: Child, line: bytes) -> None:
    """A child's line: JSON for scripts, prefixed and short for people. What is no event (a traceback, say) becomes one."""
    text = line.decode(errors="replace").rstrip()
    if not text:
        return
    event = _event_in(text)
    if event is None:
        event = {"event": "said", "said": text, "mode": str(mode), "service": child.name}
        text = json.dumps(event)
    if event.get("event") == "started":
        child.started.set()
    if sys.stdout.isatty():
        data.print(as_text(event), soft_wrap=True)
    else:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()


def _event_in(line: str) -> dict[str, Any] | None:
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) else None


async def _say_when_ready(children: list[Child]) -> None:
    for child in children:
        await child.started.wait()
    log.info("ready", workers=[child.name for child in children])
