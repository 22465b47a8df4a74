"""`saga worker NAME --mode M`: runs one worker, the observer or the payment gateway in this process.

Builds the worker from its mode and the settings.
"""

from typing import Annotated

import structlog
import typer

from bootstrap.build_worker import build_worker
from bootstrap.modes import Mode, roles, topology
from bootstrap.server_backend import ServerBackend
from broker.transport import Transport, declare_or_check
from cli.commands.worker_observer import observe
from cli.logs import configure
from cli.options import GATEWAY, ModeFlag
from cli.output import Code, exit_on_error, stop
from cli.process import maintain_ready_file, remove_ready_file, run_on_uvloop, stop_on_signal
from cli.settings import Settings, load
from observer.recorder import NAME as OBSERVER
from orchestrator.coordinator import NAME as COORDINATOR
from services.message_types import PAYMENT, SERVICES
from services.payment.gateway import PaymentGateway
from store.document import Record
from store.mongo.preflight import clock_ahead_s
from store.mongo.store import MongoStore

log = structlog.get_logger()


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command(epilog="Example: saga worker inventory --mode choreography")(worker)


def worker(
    name: Annotated[
        str, typer.Argument(help=f"{', '.join(SERVICES)}, {COORDINATOR} (orchestrator only), {OBSERVER} or {GATEWAY}.")
    ],
    mode: ModeFlag = Mode.ORCHESTRATOR,
    faults: Annotated[
        bool | None, typer.Option("--faults/--no-faults", help="Honour injected failures (default: SAGA_FAULTS, else off).")
    ] = None,
    tied_to_parent: Annotated[bool, typer.Option("--tied", hidden=True, help="Stop when stdin ends.")] = False,
    host: Annotated[
        str, typer.Option(envvar="SAGA_GATEWAY_HOST", help="Address on which the gateway or the observer listens.")
    ] = "127.0.0.1",
) -> None:
    """Run one worker of a mode, its observer, or the payment gateway, until SIGTERM or Ctrl-C."""
    settings = load()
    faults_enabled = settings.faults if faults is None else faults
    configure(settings.log_level, mode=mode, service=name)
    if name == GATEWAY:
        from cli.commands.worker_gateway import serve_gateway  # noqa: PLC0415 - an HTTP server, which other workers do not need

        serve_gateway(settings, host, faults=faults_enabled, tied_to_parent=tied_to_parent)
        return
    names = list(roles(mode))
    if name not in (*names, OBSERVER):
        why = "in choreography there is no coordinator. " if name == COORDINATOR else ""
        stop(Code.USAGE, f"the {mode} mode has no worker {name!r}: {why}Use one of {', '.join(names)}, {OBSERVER}, {GATEWAY}.")
    with exit_on_error():
        if name == OBSERVER:
            run_on_uvloop(observe(mode, settings, host, tied_to_parent=tied_to_parent))
        else:
            # Created here, so that its modules are loaded before `run_on_uvloop` freezes the loaded objects.
            gateway = settings.backend(mode).gateway() if name == PAYMENT else None
            run_on_uvloop(_run_worker(mode, name, settings, gateway, faults=faults_enabled, tied_to_parent=tied_to_parent))


async def _run_worker(
    mode: Mode, name: str, settings: Settings, gateway: PaymentGateway | None, *, faults: bool, tied_to_parent: bool
) -> None:
    remove_ready_file(settings.ready_file)  # a killed process leaves its file, and a restarted container keeps it
    backend = settings.backend(mode)
    transport, store = backend.transport(name), backend.store(name)
    await _prepare(mode, name, backend, transport, store, faults=faults)
    running_worker = build_worker(
        *(mode, name, transport, store),
        timeouts=backend.timeouts,
        environment=backend.environment,
        limits=backend.limits,
        gateway=gateway,
        faults=faults,
    )
    stop_on_signal(running_worker.stop, tied_to_parent=tied_to_parent)
    try:
        async with maintain_ready_file(running_worker.ready, settings.ready_file):
            await running_worker.run()
    finally:
        if gateway:
            await gateway.close()
        await transport.close()
        await store.close()
    log.info("stopped")


async def _prepare(
    mode: Mode, name: str, backend: ServerBackend, transport: Transport, store: MongoStore, *, faults: bool
) -> None:
    """Declare the topology, and store the worker's announcement: whether it honours injected failures, and its clock offset."""
    await transport.open()
    await declare_or_check(transport, topology(mode))
    await store.open([])
    await store.abort_orphaned_transactions()
    now = backend.environment.now
    announcement = {"faults": faults, "started_at": now(), "clock_ahead_s": await clock_ahead_s(store.connection, now)}
    await store.put([Record("workers", name, 1, announcement)])
