"""`saga watch`: a running mode, live, as its observer hears it.

Looks at the observer's database every now and then; it asks nothing of broker or workers.
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
from cli.history_view import end_of
from cli.options import ModeFlag
from cli.output import data, run
from cli.settings import load
from observer.history import History
from observer.queries import newest, open_orders
from observer.recorder import NAME
from store.protocol import Store

#: Open orders that are looked at, the stalest first, and stuck ones that are shown above the newest.
OPEN_MAX, STUCK_MAX = 500, 10


@dataclass(frozen=True, slots=True)
class Asked:
    """How many of the newest orders, how often to look, when an open order is stuck, and how long to go on (None: for ever)."""

    limit: int
    every_s: float
    patience_s: float
    for_s: float | None


@dataclass(frozen=True, slots=True)
class Look:
    """What one look has found: stuck orders, then the newest, no order twice. `open_count` stops at OPEN_MAX."""

    orders: tuple[History, ...]
    stuck: frozenset[str]
    open_count: int


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command(epilog="Example: saga watch --mode choreography --for 60")(watch)


def watch(
    mode: ModeFlag = Mode.ORCHESTRATOR,
    limit: Annotated[int, typer.Option(min=1, max=200, help="So many of the newest orders.")] = 15,
    every: Annotated[float, typer.Option(min=0.1, max=60, help="Seconds between two looks.")] = 0.5,
    patience: Annotated[
        float, typer.Option(min=0.1, help="Seconds without a message after which an open order is stuck.")
    ] = 40.0,
    for_: Annotated[float | None, typer.Option("--for", min=0.1, help="Seconds to go on; without it, until Ctrl-C.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document a line, for each order that has moved.")] = False,
) -> None:
    """Follow a running mode live, as its observer hears it: where its newest orders stand, whom they wait for, what is stuck.

    `saga order explain ID` then tells the whole story of one."""
    run(_watch(mode, Asked(limit, every, patience, for_), as_json=as_json))


async def _watch(mode: Mode, asked: Asked, *, as_json: bool) -> None:
    store = load().parts(mode).store(NAME)
    try:
        await store.open([])
        if data.is_terminal and not as_json:
            with Live(console=data, auto_refresh=False) as live:
                async for look in _looks(store, mode, asked):
                    live.update(_screen(mode, look), refresh=True)
        else:
            await _say_what_moves(_looks(store, mode, asked), as_json=as_json)
    finally:
        await store.close()


async def _looks(store: Store, mode: Mode, asked: Asked) -> AsyncIterator[Look]:
    ends_at = time.monotonic() + asked.for_s if asked.for_s else float("inf")
    while True:
        now = time.time()
        still_open = await open_orders(store, mode, now, OPEN_MAX)
        stuck = [one for one in still_open if one.stuck(now, asked.patience_s)][:STUCK_MAX]
        ids = frozenset(one.order_id for one in stuck)
        others = [one for one in await newest(store, mode, asked.limit) if one.order_id not in ids]
        yield Look((*stuck, *others), ids, len(still_open))
        left_s = ends_at - time.monotonic()
        if left_s <= 0:
            return
        await asyncio.sleep(min(asked.every_s, left_s))


async def _say_what_moves(looks: AsyncIterator[Look], *, as_json: bool) -> None:
    """A line for each order that is not as it was at the last look."""
    said: dict[str, dict[str, object]] = {}
    async for look in looks:
        found = {one.order_id: _line(one, stuck=one.order_id in look.stuck) for one in reversed(look.orders)}
        for order_id, line in found.items():
            if line == said.get(order_id):
                continue
            if as_json:
                typer.echo(json.dumps(line))
            else:
                words = (order_id, line["state"], line["reason"], line["last"], "STUCK" if line["stuck"] else None)
                typer.echo("  ".join(str(word) for word in words if word))
        said = found


def _line(one: History, *, stuck: bool) -> dict[str, object]:
    return {
        "order_id": one.order_id,
        "state": one.state,
        "reason": one.reason,
        "messages": len(one.entries),
        "last": one.entries[-1].name,
        "waits_for": [waiting.worker for waiting in one.waiting],
        "stuck": stuck,
    }


def _screen(mode: Mode, look: Look) -> Table:
    count = f"{look.open_count}{'+' if look.open_count == OPEN_MAX else ''}"
    title = f"{mode}: {count} open, {len(look.stuck)} stuck" if look.orders else f"{mode}: the observer has heard of no order yet"
    table = Table(title=title, title_justify="left", title_style="bold", expand=True)
    table.add_column("order", no_wrap=True)
    for name in ("stands", "messages", "last", "waits for"):
        table.add_column(name)
    now = time.time()
    for one in look.orders:
        waits = ", ".join(f"{waiting.worker} {max(now - waiting.since, 0.0):.0f} s" for waiting in one.waiting)
        stuck = Text(f"STUCK: {one.why}", style="bold red") if one.order_id in look.stuck else Text(waits)
        table.add_row(one.order_id, end_of(one), str(len(one.entries)), one.entries[-1].name, stuck)
    return table
