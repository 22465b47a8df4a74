"""`saga api --mode M`: serves the HTTP API of a mode in this process, with the dashboard.

Builds the API's worker from the settings and the mode.
"""

import socket
from collections.abc import Mapping
from typing import Annotated

import structlog
import typer

from api.handlers import api_role
from api.messages import NAME
from api.orders import Orders, api_limits, api_topology
from api.server import serve
from bootstrap.build_worker import assemble
from bootstrap.modes import Mode, topology
from broker.transport import declare_or_check
from cli.logs import configure
from cli.options import ModeFlag
from cli.output import Code, exit_on_error, listen, stop
from cli.process import exit_after_drain_timeout, run_on_uvloop
from cli.settings import Settings, load
from dashboard.api_mount import mount_dashboard
from observer.message_flow import MESSAGE_FLOWS

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
    """Serve the HTTP API of a mode until SIGTERM or Ctrl-C. Its OpenAPI document is at /openapi.json."""
    settings = load()
    try:
        remote_apis = settings.remote_apis_of(mode)
    except ValueError as error:
        stop(Code.USAGE, f"{error}.")
    configure(settings.log_level, mode=mode, service=NAME)
    listener = listen(host, port, backlog=2048, problem="the API cannot serve", remedy="Choose another --port.")
    with exit_on_error(), listener:
        run_on_uvloop(_serve(mode, settings, remote_apis, listener))


async def _serve(mode: Mode, settings: Settings, remote_apis: Mapping[Mode, str], listener: socket.socket) -> None:
    backend = settings.backend(mode)
    transport, store = backend.transport(NAME), backend.store(NAME)
    limits = api_limits(backend.limits)
    worker = assemble(api_role(), api_topology(mode), transport, store, environment=backend.environment, limits=limits)
    orders = Orders(mode, worker)
    try:
        await orders.prepare()
        await declare_or_check(transport, topology(mode))
        await store.abort_orphaned_transactions()
        host, port = listener.getsockname()[:2]
        log.info("listening", url=f"http://{host}:{port}")
        async with mount_dashboard(mode, orders, settings.observer_url, remote_apis) as page:

            def on_shutdown() -> None:
                exit_after_drain_timeout()
                page.stop()

            await serve(orders, listener, pivot_first=MESSAGE_FLOWS[mode].pivot_first, on_shutdown=on_shutdown, page=page.app)
    finally:
        await orders.close()
    log.info("stopped")
