"""`saga matrix`: kills a worker at every point of its loop, during each handler, on the in-memory back end.

The runs are in lab/simulation/crash_matrix.py. This module prints the results.
"""

from typing import Annotated

import typer
from rich.progress import Progress, TextColumn
from rich.table import Table

from bootstrap.modes import Mode
from cli.options import JsonFlag
from cli.output import Code, console, data, print_json, stop
from lab.simulation.campaign import silence_logs
from lab.simulation.crash_matrix import NOT_REACHED, PASSED, Cell, as_dict, run_matrix
from lab.simulation.plan import CrashPoint


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command(epilog="Example: saga matrix --mode choreography")(matrix)


def matrix(
    mode: Annotated[Mode | None, typer.Option("--mode", "-m", help="Only this mode (default: both).")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Kill a worker at each point of its loop, during each handler. Exit 3 when an order is lost or doubled."""
    silence_logs()
    cells: list[Cell] = []
    with Progress(TextColumn("killing {task.description}"), console=console, disable=as_json, transient=True) as progress:
        task = progress.add_task("")
        for chosen in [mode] if mode else list(Mode):
            cells += run_matrix(
                chosen, on_progress=lambda cell: progress.update(task, description=f"{cell.worker} with {cell.handler}")
            )
    if as_json:
        print_json(as_dict(cells))
    else:
        _print(cells)
    bad = [cell for cell in cells if cell.verdict not in (PASSED, NOT_REACHED)]
    if bad:
        stop(
            Code.AUDIT_FAILED,
            f"{len(bad)} of {len(cells)} kills ended with another verdict than `{PASSED}`. The verdicts are above.",
        )


def _print(cells: list[Cell]) -> None:
    colours = {PASSED: "green", NOT_REACHED: "dim"}
    for mode, rows in as_dict(cells).items():
        table = Table("handler", *map(str, CrashPoint), title=f"{mode}: killed ...")
        for handler, verdicts in rows.items():
            table.add_row(handler, *(f"[{colours.get(verdict, 'red')}]{verdict}[/]" for verdict in verdicts.values()))
        data.print(table)
