"""`make bench`, or `python -m benchmarks`: measures the speed table and reports which floors are met.

Needs RabbitMQ (SAGA_BROKER_URL). Starts its own database, unless SAGA_STORE_URL names one, and its own payment gateway. It resets
the queues and databases of both modes, so it does not start while one of their queues has a consumer or a message.
"""

import asyncio
import fcntl
import itertools
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.markup import escape

from benchmarks.per_order import count
from benchmarks.report import Report
from benchmarks.rows import ROWS, Scale, bare, measure, observed, ours
from benchmarks.servers import delete, inspect_queues, serving
from benchmarks.sides import RunFailed
from bootstrap.modes import Mode, topology
from broker import declarations
from cli.output import data, print_json

PER_ORDER = "per-order"
NAMES = [*(row.name for row in ROWS), PER_ORDER]

console = Console(stderr=True)


def main(
    row: Annotated[list[str] | None, typer.Option(help=f"Only these rows: {', '.join(NAMES)}.")] = None,
    mode: Annotated[list[Mode] | None, typer.Option(help="Only this mode.")] = None,
    pairs: Annotated[int, typer.Option(min=1, help="Alternating pairs for each row.")] = 5,
    quick: Annotated[
        bool, typer.Option("--quick", help="One pair with few orders, as a smoke test; its figures mean nothing.")
    ] = False,
    noisy: Annotated[
        bool, typer.Option("--noisy", help="Keep pairs during which other processes used the CPU; they are marked.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
    write: Annotated[Path | None, typer.Option(help="Also write the tables to this file, as Markdown.")] = None,
) -> None:
    """Measure our workers against bare chains. The whole table takes about 45 minutes."""
    unknown = set(row or ()) - set(NAMES)
    if unknown:
        _stop(2, f"there is no row {', '.join(sorted(unknown))}. Use {', '.join(NAMES)}.")
    report = Report(1 if quick else pairs)
    failure = None
    try:
        _measure_all(report, row or NAMES, list(mode or Mode), Scale(report.pairs, quick=quick, strict=not (noisy or quick)))
    except (RunFailed, TimeoutError, OSError) as error:
        failure = str(error)  # the rows measured so far are still shown
    _show(report, as_json=as_json, write=write)
    if failure:
        _stop(1, failure)


def _show(report: Report, *, as_json: bool, write: Path | None) -> None:
    if as_json:
        print_json(report.as_dict())
    else:
        for table in report.tables():
            data.print(table)
    if write:
        write.write_text(report.markdown())


def _measure_all(report: Report, names: list[str], modes: list[Mode], scale: Scale) -> None:
    """Fill the report, row by row."""
    with nullcontext() if scale.quick else _single_run_lock(), _unused_queues(modes), serving() as servers:
        report.description = servers.description
        for chosen, mode in itertools.product(ROWS, modes):
            if chosen.name in names:
                report.results.append(measure(chosen, mode, servers, scale, _report_progress))
        for mode in modes if PER_ORDER in names else ():
            report.costs += count(mode, servers, scale)


@contextmanager
def _single_run_lock() -> Iterator[None]:
    """Hold a lock file. Stops when another benchmark runs on this machine, because each would disturb the other."""
    with Path(tempfile.gettempdir(), "saga-benchmark.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _stop(1, "another benchmark runs on this machine, and each would disturb the other. Wait for its end.")
        yield


@contextmanager
def _unused_queues(modes: list[Mode]) -> Iterator[None]:
    """Stop when a mode runs or has messages; at the end delete queues and exchanges that did not exist before."""
    work = {mode: [*observed(mode).queues, *bare(mode).queues] for mode in modes}
    before = asyncio.run(inspect_queues([name for names in work.values() for name in names]))
    busy = sorted(name for name, queue in before.items() if queue.consumers or queue.messages)
    if busy:
        _stop(1, f"{', '.join(busy)} are in use, and a benchmark empties them. Stop `saga up`, or empty them with `saga reset`.")
    for mode in modes:  # the queue of an observer that has ended would receive messages and cost time
        asyncio.run(delete(observed(mode).observers_queues, []))
    try:
        yield
    finally:
        for mode in modes:
            declared = [] if before.keys() & set(ours(mode).queues) else [str(mode)]
            asyncio.run(_remove(mode, [*declared, bare(mode).prefix]))


async def _remove(mode: Mode, prefixes: list[str]) -> None:
    queues = [name for prefix in prefixes for name in topology(mode, prefix).queue_names()]
    exchanges = [name for prefix in prefixes for name in declarations.exchanges(topology(mode, prefix))]
    await delete(queues, exchanges)


def _report_progress(what: str) -> None:
    console.print(what, highlight=False)


def _stop(code: int, what: str) -> NoReturn:
    console.print(f"[bold red]benchmarks:[/] {escape(what)}", highlight=False, soft_wrap=True)
    raise typer.Exit(code)


if __name__ == "__main__":
    os.chdir(Path(__file__).parent.parent)  # child processes import the packages from there
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # unwinds, so that child processes are stopped
    typer.run(main)
