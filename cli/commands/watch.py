"""`saga watch`: follows the orders of a running mode, as its observer records them.

Polls the observer's database; uses neither broker nor workers.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated

import typer
from rich.live import Live
from rich.table import Table
from rich.text import Text

from bootstrap.modes import Mode
from cli.history_view import state_text
from cli.options import ModeFlag
from cli.output import data, run
from cli.settings import load
from observer.history import History
from observer.queries import newest, open_orders
from observer.recorder import NAME
from store.protocol import Store

#: The most open orders that are read, those without progress for longest first; and the most stuck ones shown above the newest.
OPEN_MAX, STUCK_MAX = 500, 10


@dataclass(frozen=True, slots=True)
class WatchOptions:
    """The number of newest orders, the polling interval, when an open order counts as stuck, and the duration (None: no end)."""

    limit: int
    every_s: float
    stuck_after_s: float
    for_s: float | None


@dataclass(frozen=True, slots=True)
class WatchFrame:
    """The result of one poll: stuck orders, then the newest, without duplicates. `open_count` stops at OPEN_MAX."""

    orders: tuple[History, ...]
    stuck: frozenset[str]
    open_count: int


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command(epilog="Example: saga watch --mode choreography --for 60")(watch)


def watch(
    mode: ModeFlag = Mode.ORCHESTRATOR,
    limit: Annotated[int, typer.Option(min=1, max=200, help="Number of newest orders.")] = 15,
    every: Annotated[float, typer.Option(min=0.1, max=60, help="Seconds between two polls.")] = 0.5,
    patience: Annotated[
        float, typer.Option(min=0.1, help="Seconds without a message after which an open order counts as stuck.")
    ] = 40.0,
    for_: Annotated[float | None, typer.Option("--for", min=0.1, help="Seconds to run (default: until Ctrl-C).")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document a line, for each order that has changed.")] = False,
) -> None:
    """Follow a running mode as its observer records it: the newest orders, the worker each waits for, and what is stuck.

    `saga order explain ID` prints the whole history of one order."""
    run(_watch(mode, WatchOptions(limit, every, patience, for_), as_json=as_json))


async def _watch(mode: Mode, options: WatchOptions, *, as_json: bool) -> None:
    store = load().backend(mode).store(NAME)
    try:
        await store.open([])
        if data.is_terminal and not as_json:
            with Live(console=data, auto_refresh=False) as live:
                async for frame in _frames(store, mode, options):
                    live.update(_table(mode, frame), refresh=True)
        else:
            await _print_changes(_frames(store, mode, options), as_json=as_json)
    finally:
        await store.close()


async def _frames(store: Store, mode: Mode, options: WatchOptions) -> AsyncIterator[WatchFrame]:
    ends_at = time.monotonic() + options.for_s if options.for_s else float("inf")
    while True:
        now = time.time()
        still_open = await open_orders(store, mode, now, OPEN_MAX)
        stuck = [history for history in still_open if history.stuck(now, options.stuck_after_s)][:STUCK_MAX]
        ids = frozenset(history.order_id for history in stuck)
        others = [history for history in await newest(store, mode, options.limit) if history.order_id not in ids]
        yield WatchFrame((*stuck, *others), ids, len(still_open))
        left_s = ends_at - time.monotonic()
        if left_s <= 0:
            return
        await asyncio.sleep(min(options.every_s, left_s))


async def _print_changes(frames: AsyncIterator[WatchFrame], *, as_json: bool) -> None:
    """Print a line for each order that has changed since the last poll."""
    printed: dict[str, dict[str, object]] = {}
    async for frame in frames:
        found = {history.order_id: _summary(history, stuck=history.order_id in frame.stuck) for history in reversed(frame.orders)}
        for order_id, line in found.items():
            if line == printed.get(order_id):
                continue
            if as_json:
                typer.echo(json.dumps(line))
            else:
                words = (order_id, line["state"], line["reason"], line["last"], "STUCK" if line["stuck"] else None)
                typer.echo("  ".join(str(word) for word in words if word))
        printed = found


def _summary(history: History, *, stuck: bool) -> dict[str, object]:
    return {
        "order_id": history.order_id,
        "state": history.state,
        "reason": history.reason,
        "messages": len(history.entries),
        "last": history.entries[-1].name,
        "waits_for": [waiting.worker for waiting in history.waiting],
        "stuck": stuck,
    }


def _table(mode: Mode, frame: WatchFrame) -> Table:
    count = f"{frame.open_count}{'+' if frame.open_count == OPEN_MAX else ''}"
    title = f"{mode}: {count} open, {len(frame.stuck)} stuck" if frame.orders else f"{mode}: the observer has no order yet"
    table = Table(title=title, title_justify="left", title_style="bold", expand=True)
    table.add_column("order", no_wrap=True)
    for name in ("state", "messages", "last", "waits for"):
        table.add_column(name)
    now = time.time()
    for history in frame.orders:
        waits = ", ".join(f"{waiting.worker} {max(now - waiting.since, 0.0):.0f} s" for waiting in history.waiting)
        stuck = Text(f"STUCK: {history.why}", style="bold red") if history.order_id in frame.stuck else Text(waits)
        table.add_row(history.order_id, state_text(history), str(len(history.entries)), history.entries[-1].name, stuck)
    return table
