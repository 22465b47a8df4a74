"""`saga reset`: empties the queues, the databases and the gateway's book of one mode."""

from typing import Annotated

import typer

from api.messages import NAME as API
from api.orders import api_topology
from bootstrap.connections import open_stores, open_transport
from bootstrap.modes import Mode, topology
from bootstrap.server_backend import ServerBackend
from broker.topology import Topology, queue_of
from broker.transport import DeclarationDiffers, QueueMissing, Transport
from cli.options import JsonFlag, ModeFlag
from cli.output import Code, data, print_json, run, stop
from cli.settings import load
from observer.recorder import NAME as OBSERVER
from observer.recorder import with_observer


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command(epilog="Example: saga reset --mode choreography --yes")(reset)


def reset(
    mode: ModeFlag = Mode.ORCHESTRATOR,
    yes: Annotated[bool, typer.Option("--yes", help="Confirm.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Empty the queues, the databases and the payment gateway's book of a mode. The other mode stays as it is."""
    if not yes:
        stop(Code.USAGE, f"this deletes every order, payment and message of the {mode} mode. Confirm with --yes.")
    run(_reset(mode))
    if as_json:
        print_json({"mode": str(mode), "reset": True})
    else:
        data.print(f"the {mode} mode is empty", highlight=False)


async def _empty_queues(transport: Transport, declared: Topology) -> None:
    """Empty every queue. Queues and exchanges that another version declared differently are deleted and declared again."""
    try:
        await transport.declare(declared)
    except DeclarationDiffers:
        await transport.delete(declared)
        await transport.declare(declared)
    await transport.purge(declared)


async def _reset(mode: Mode) -> None:
    backend = load().backend(mode)
    async with open_stores(mode, backend) as seen:
        async with open_transport(backend, "reset") as transport:
            await _empty_queues(transport, topology(mode))
            await _reset_optional_worker(backend, transport, API, api_topology(backend.prefix))
            await _reset_optional_worker(backend, transport, OBSERVER, with_observer(topology(mode)))
        for store in seen.stores.values():
            announced = await store.find("workers")  # keep the announcements of workers that run
            await store.wipe()
            await store.put(announced)
    await backend.clear_books()


async def _reset_optional_worker(backend: ServerBackend, transport: Transport, name: str, declared: Topology) -> None:
    """Empty the queue and database of the HTTP API or the observer, if this mode ever had one."""
    try:
        await transport.depth(queue_of(backend.prefix, name))
    except QueueMissing:
        return
    await _empty_queues(transport, declared)
    store = backend.store(name)
    try:
        await store.open([])
        await store.wipe()
    finally:
        await store.close()
