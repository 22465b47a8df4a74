"""`saga up --mode M`: all workers of a mode and the payment gateway as local processes, kept running until told to stop.

Room: cli/. A supervisor and nothing more: it starts children, starts one again when it dies, passes their lines on, ends them.
"""

import asyncio
import json
import os
import signal
import sys
from dataclasses import dataclass, field
from typing import Annotated, Any

import aiohttp
import structlog
import typer

from cli.logs import configure
from cli.order import ModeFlag
from cli.output import Code, console, run, stop
from cli.settings import Settings, load
from cli.worker import GATEWAY
from lab.modes import Mode, roles, topology

#: How long children may take to end before they are killed.
GRACE_S = 10.0
#: The pause before a child that died is started again: doubled each time, forgotten once it has lived for a while.
FIRST_PAUSE_S, LONGEST_PAUSE_S, LIVED_S = 0.2, 5.0, 10.0
COLOURS = ("cyan", "green", "magenta", "yellow", "blue", "bright_cyan")

log = structlog.get_logger()


@dataclass(slots=True)
class Child:
    """One worker's process, whichever incarnation it is in."""

    name: str
    colour: str
    started: asyncio.Event = field(default_factory=asyncio.Event)
    process: asyncio.subprocess.Process | None = None


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command(epilog="Example: saga up --mode choreography")(up)


def up(
    mode: ModeFlag = Mode.ORCHESTRATOR,
    faults: Annotated[bool, typer.Option("--faults/--no-faults", help="Honour failures injected with an order.")] = True,
) -> None:
    """Run all workers of a mode and the payment gateway; restart what dies; Ctrl-C or SIGTERM ends them all."""
    settings = load()
    configure(settings.log_level, mode=mode, service="up")
    code = run(_up(mode, settings, faults=faults))
    if code:
        stop(Code(code), "interrupted; all workers have ended.")


async def _up(mode: Mode, settings: Settings, *, faults: bool) -> int:
    await _check_servers(mode, settings)
    names = list(roles(mode))
    if await _gateway_answers(settings):
        log.info("gateway_shared", url=settings.gateway_url)
    else:
        names.insert(0, GATEWAY)
    children = [Child(name, COLOURS[index % len(COLOURS)]) for index, name in enumerate(names)]
    told: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    for number, code in ((signal.SIGINT, int(Code.INTERRUPTED)), (signal.SIGTERM, 0)):
        asyncio.get_running_loop().add_signal_handler(number, _tell, told, code)
    keepers = [asyncio.create_task(_keep(child, mode, faults=faults), name=child.name) for child in children]
    ready = asyncio.create_task(_say_when_ready(children))
    try:
        await _first_of(told, keepers)
    finally:
        await _wind_down(children, [ready, *keepers])
    return told.result()


async def _first_of(told: "asyncio.Future[int]", keepers: "list[asyncio.Task[None]]") -> None:
    """Until somebody tells us to stop. A keeper ends only by an error of its own: that is raised."""
    waiting: list[asyncio.Future[Any]] = [told, *keepers]
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    for keeper in keepers:
        if keeper.done():
            keeper.result()


async def _wind_down(children: list[Child], tasks: "list[asyncio.Task[None]]") -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.gather(*(_end(child) for child in children))


def _tell(told: "asyncio.Future[int]", code: int) -> None:
    if not told.done():
        told.set_result(code)


async def _check_servers(mode: Mode, settings: Settings) -> None:
    """Declare the furniture and open a store, so that a missing server is said once and at once."""
    parts = settings.parts(mode)
    transport, store = parts.transport("up"), parts.store("order")
    try:
        await transport.open()
        await transport.declare(topology(mode))
        await store.open([])
    finally:
        await transport.close()
        await store.close()


async def _gateway_answers(settings: Settings) -> bool:
    timeout = aiohttp.ClientTimeout(total=1)
    try:
        async with aiohttp.ClientSession(timeout=timeout) as session, session.get(f"{settings.gateway_url}/health") as response:
            return response.status == 200
    except (aiohttp.ClientError, TimeoutError):
        return False


async def _keep(child: Child, mode: Mode, *, faults: bool) -> None:
    """Start the child, and start it again whenever it dies."""
    loop = asyncio.get_running_loop()
    pause_s = FIRST_PAUSE_S
    while True:
        began = loop.time()
        code = await _live(child, mode, faults=faults)
        if loop.time() - began > LIVED_S:
            pause_s = FIRST_PAUSE_S
        log.warning("worker_restarted", worker=child.name, exit_code=code, after_s=pause_s)
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, LONGEST_PAUSE_S)


async def _live(child: Child, mode: Mode, *, faults: bool) -> int:
    """One life of a child; gives its exit code."""
    child.process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "cli", "worker", child.name, "--mode", mode, "--tied"),
        "--faults" if faults else "--no-faults",
        stdin=asyncio.subprocess.PIPE,  # never written to: its end tells the child that this process is gone
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        start_new_session=True,  # Ctrl-C is for this process, which ends its children in good order
    )
    assert child.process.stdout is not None  # noqa: S101 - asked for above
    async for line in child.process.stdout:
        _pass_on(child, line)
    return await child.process.wait()


def _pass_on(child: Child, line: bytes) -> None:
    """A child's line: as it is for scripts, prefixed and short for people."""
    text = line.decode(errors="replace").rstrip()
    try:
        event: dict[str, Any] = json.loads(text)
    except ValueError:
        event = {"event": text}
    if event.get("event") == "started":
        child.started.set()
    if not sys.stdout.isatty():
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
        return
    told = " ".join(
        f"{key}={value}"
        for key, value in event.items()
        if key not in ("event", "level", "timestamp", "mode", "service") and value
    )
    console.print(f"[{child.colour}]{child.name:>11}[/] {event.get('event')}  {told}", highlight=False, soft_wrap=True)


async def _say_when_ready(children: list[Child]) -> None:
    for child in children:
        await child.started.wait()
    log.info("ready", workers=[child.name for child in children])


async def _end(child: Child) -> None:
    """Ask it to end; after a while, make it."""
    process = child.process
    if process is None or process.returncode is not None:
        return
    process.terminate()
    try:
        await asyncio.wait_for(process.wait(), GRACE_S)
    except TimeoutError:
        process.kill()
        await process.wait()
