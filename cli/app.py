"""`saga`: the one program. The only place that may import every room.

Room: cli/. Each command is in the file of its name; this puts them together.
"""

from importlib.metadata import version
from typing import Annotated

import typer

from cli import (
    admin,
    api,
    audit,
    chaos,
    demo,
    diagram,
    dlq,
    doctor,
    explain,
    matrix,
    order,
    reset,
    simulate,
    stock,
    storm,
    up,
    watch,
    worker,
)
from cli.output import data
from cli.program import Program

app = Program(
    name="saga",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="One place-order flow as an orchestrated and as a choreographed saga: run it, break it, watch it, measure it.",
    epilog="Start here: saga demo. Exit codes: 0 ok, 1 failed, 2 usage, 3 audit failed, 4 a server is missing, 130 Ctrl-C.",
)


def _version(wanted: bool) -> None:
    if wanted:
        data.print(f"saga {version('saga-orchestration-vs-choreography')}", highlight=False)
        raise typer.Exit


@app.callback()
def root(
    show_version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """Take the options that stand before every command."""


demo.register(app)
diagram.register(app)
up.register(app)
worker.register(app)
watch.register(app)
api.register(app)
explain.register(order.app)
app.add_typer(order.app, name="order")
storm.register(app)
simulate.register(app)
matrix.register(app)
chaos.register(app)
audit.register(app)
app.add_typer(stock.app, name="stock")
app.add_typer(dlq.app, name="dlq")
reset.register(app)
doctor.register(app)
app.add_typer(admin.app, name="admin")


def main() -> None:
    """The console script `saga`."""
    app()
