"""`saga api --mode M`: the door over HTTP, in this process until it is told to stop.

The composition of the door: its clients from the settings, its rules from the mode.
"""

import socket
from collections.abc import Mapping
from typing import Annotated

import structlog
import typer

from api.handlers import door_role
from api.messages import NAME
from api.orders import Desk, door_limits, door_topology
from api.server import serve
from bootstrap.build_worker import assemble
from bootstrap.modes import Mode, topology
from broker.transport import furnish
from cli.logs import configure
from cli.options import ModeFlag
from cli.output import Code, ending, listen, stop
from cli.process import end_within_patience, run_fast
from cli.settings import Settings, load
from dashboard.api_mount import page_at_door

log = structlog.get_logger()


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command(epilog="Example: saga api --mode choreography --port 8080")(api)


def api(
    mode: ModeFlag = Mode.ORCHESTRATOR,
    host: Annotated[
        str, typer.Option(envvar="SAGA_API_HOST", help="Where to listen. There is no log-in: keep it private.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, envvar="SAGA_API_PORT", help="0 takes a free one.")] = 8080,
) -> None:
    """Serve the door of a mode over HTTP until SIGTERM or Ctrl-C. Its OpenAPI is at /openapi.json."""
    settings = load()
    try:
        beside = settings.beside_of(mode)
    except ValueError as error:
        stop(Code.USAGE, f"{error}.")
    configure(settings.log_level, mode=mode, service=NAME)
    listener = listen(host, port, backlog=2048, failing="the door cannot serve", instead="Choose another --port.")
    with ending(), listener:
        run_fast(_serve(mode, settings, beside, listener))


async def _serve(mode: Mode, settings: Settings, beside: Mapping[Mode, str], listener: socket.socket) -> None:
    parts = settings.parts(mode)
    transport, store = parts.transport(NAME), parts.store(NAME)
    limits = door_limits(parts.limits)
    worker = assemble(door_role(), door_topology(mode), transport, store, environment=parts.sources, limits=limits)
    desk = Desk(mode, worker)
    try:
        await desk.prepare()
        await furnish(transport, topology(mode))
        await store.free_what_the_dead_hold()
        host, port = listener.getsockname()[:2]
        log.info("listening", url=f"http://{host}:{port}")
        async with page_at_door(mode, desk, settings.observer_url, beside) as page:

            def told_to_stop() -> None:
                end_within_patience()
                page.stop()

            await serve(desk, listener, pivot_first=mode is Mode.CHOREOGRAPHY, told_to_stop=told_to_stop, page=page.app)
    finally:
        await desk.close()
    log.info("stopped")
