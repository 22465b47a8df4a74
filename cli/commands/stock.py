"""`saga stock show|set`: prints the stock, or sets what is available.

The bookings are in ops/stock.py.
"""

from typing import Annotated

import typer
from pydantic import TypeAdapter, ValidationError
from rich.table import Table

from bootstrap.connections import open_stores
from bootstrap.modes import Mode
from cli.options import JsonFlag, ModeFlag
from cli.output import Code, data, print_json, run, stop
from cli.settings import load
from cli.typer_app import TyperApp
from ops.stock import read_stock, set_available
from services.inventory.domain import Stock
from services.vocabulary import Sku

group = TyperApp(no_args_is_help=True, help="Show the stock, or set what is available.")


def register(app: typer.Typer) -> None:
    """Add the commands to the app."""
    app.add_typer(group, name="stock")


#: The most units of one article: enough for every experiment, and far below 2^63.
AVAILABLE_MAX = 10**12


@group.command(epilog="Example: saga stock show --mode choreography")
def show(mode: ModeFlag = Mode.ORCHESTRATOR, as_json: JsonFlag = False) -> None:
    """Show the stock of every article: received = available + held."""
    _print(run(_show(mode)), as_json=as_json)


@group.command("set", epilog="Example: saga stock set sku-001 5 --mode choreography")
def set_(
    sku: Annotated[str, typer.Argument(help="The article.")],
    available: Annotated[int, typer.Argument(min=0, max=AVAILABLE_MAX, help="Units that shall be available.")],
    mode: ModeFlag = Mode.ORCHESTRATOR,
    as_json: JsonFlag = False,
) -> None:
    """Book units in or out so that this many are available. Units that orders hold are not changed."""
    try:
        TypeAdapter(Sku).validate_python(sku)
    except ValidationError:
        stop(Code.USAGE, f"{sku!r} is not a SKU. Use letters, digits, - and _, at most 64, the first a letter or digit.")
    _print(run(_set(mode, sku, available)), as_json=as_json)


async def _show(mode: Mode) -> dict[str, Stock]:
    async with open_stores(mode, load().backend(mode)) as seen:
        return await read_stock(seen.stores["inventory"])


async def _set(mode: Mode, sku: str, available: int) -> dict[str, Stock]:
    async with open_stores(mode, load().backend(mode)) as seen:
        return await set_available(seen.stores["inventory"], {sku: available})


def _print(articles: dict[str, Stock], *, as_json: bool) -> None:
    rows = [articles[sku] for sku in sorted(articles)]
    if as_json:
        print_json({"stock": [article.model_dump() for article in rows]})
        return
    table = Table("sku", "received", "available", "held")
    for article in rows:
        table.add_row(article.sku, str(article.received), str(article.available), str(article.held))
    data.print(table)
