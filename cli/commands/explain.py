"""`saga order explain ID`: what happened to an order and why, as the observer recorded it.

Reads the observer's database alone, so it works while no worker runs. cli/history_view.py prints.
"""

import time
from typing import Annotated

import typer

from bootstrap.modes import Mode
from cli.history_view import history_as_json, print_history
from cli.options import JsonFlag, ModeFlag, OrderId
from cli.output import Code, print_json, run, stop
from cli.settings import load
from observer.history import History
from observer.mermaid import sequence_diagram
from observer.queries import history_of
from observer.recorder import NAME


def register(app: typer.Typer) -> None:
    """Add the command to the app of `saga order`."""
    app.command(epilog="Example: saga order explain 0190a0a0-0000-7000-8000-000000000000 --mode choreography")(explain)


def explain(
    order_id: OrderId,
    mode: ModeFlag = Mode.ORCHESTRATOR,
    mermaid: Annotated[bool, typer.Option("--mermaid", help="Print only its path, as a Mermaid sequence diagram.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Explain what happened to an order: root cause, path, waits, compensations, remaining steps. `saga demo --explain` needs no
    server."""
    history = run(_load_history(mode, order_id))
    if history is None:
        stop(
            Code.FAILED,
            f"the observer of the {mode} mode has no record of order {order_id}. It records messages from its first start on. "
            f"`saga up --mode {mode}` runs it, `saga worker {NAME} --mode {mode}` runs it alone. "
            f"What the services have stored: saga order show {order_id} --mode {mode}",
        )
    if as_json:
        print_json(history_as_json(history, time.time()))
    elif mermaid:
        typer.echo(sequence_diagram(history))
    else:
        print_history(history, time.time())


async def _load_history(mode: Mode, order_id: str) -> History | None:
    store = load().backend(mode).store(NAME)
    try:
        await store.open([])
        return await history_of(store, mode, order_id)
    finally:
        await store.close()
