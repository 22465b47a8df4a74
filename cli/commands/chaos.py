"""`saga chaos`: a storm on processes of its own while they are killed, frozen and cut off; then heal, drain, audit.

The run is in lab/chaos/. This module parses options, supervises the processes, shows progress and prints the report.
"""

import logging
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from bootstrap.modes import Mode, roles
from cli.findings_view import show_findings
from cli.options import JsonFlag, ModeFlag
from cli.output import Code, console, data, print_json, run, stop
from cli.supervisor import SupervisedProcess
from lab.chaos.cluster import StartFailed
from lab.chaos.nemesis import ManagedProcess
from lab.chaos.run import ChaosPlan, ChaosReport, ChaosRun
from lab.chaos.servers import NotInstalled, ProcessSpec
from lab.simulation.campaign import silence_logs

#: Findings of each kind that are printed.
SENTENCES_MAX = 20
#: Least and most seconds by which a skewed clock is off, in either direction.
SKEW_S = (2, 5)


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command(epilog="Example: saga chaos --mode choreography --for 40 --seed 7")(chaos)


def chaos(
    mode: ModeFlag = Mode.ORCHESTRATOR,
    seconds: Annotated[
        float, typer.Option("--for", min=5, max=86_400, help="Seconds of storm and faults; then everything heals.")
    ] = 120.0,
    seed: Annotated[int, typer.Option(min=0, help="Decides the faults, their times, and the orders.")] = 1,
    rate: Annotated[float, typer.Option(min=1, max=500, help="Orders a second.")] = 20.0,
    full_disk: Annotated[
        bool, typer.Option("--full-disk", help="Also fill the disk of the payment gateway's books (mounts a tmpfs).")
    ] = False,
    skew: Annotated[bool, typer.Option("--skew", help="Also skew one worker's clock (needs faketime).")] = False,
    keep: Annotated[Path | None, typer.Option(help="A new folder to keep all data and logs in.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Kill, freeze and cut off real servers and workers of its own. Exit 3 when an order is lost, doubled or stuck."""
    if keep is not None and keep.exists():
        stop(Code.USAGE, f"{keep} exists. Name a new folder with --keep.")
    skew_commands, note = _choose_skew(mode, seed) if skew else ({}, "")
    plan = ChaosPlan(mode, seconds, seed, rate, full_disk=full_disk, skew_commands=skew_commands)
    try:
        with _silence_logs(), _folder(keep) as home, _progress(quiet=as_json) as on_progress:
            report = run(ChaosRun(plan, home, _spawn, on_progress).run())
    except NotInstalled as error:
        stop(Code.SERVER_MISSING, f"{error}, and chaos starts servers of its own. Install it.")
    except StartFailed as error:
        stop(Code.FAILED, f"{error}. Its logs are kept with --keep FOLDER.")
    notes = [*report.notes, note] if note else list(report.notes)
    if as_json:
        print_json({**as_dict(report), "notes": notes})
    else:
        _print(report, notes)
    _stop_unless_ok(report)


@contextmanager
def _silence_logs() -> Iterator[None]:
    """Turn logging off: libraries log every connection that is cut on purpose."""
    silence_logs()
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def _spawn(spec: ProcessSpec, on_line: Callable[[str, bytes], None]) -> ManagedProcess:
    return SupervisedProcess(spec.name, spec.command, lambda child, line: on_line(child.name, line), env=spec.env)


def _choose_skew(mode: Mode, seed: int) -> tuple[Mapping[str, Sequence[str]], str]:
    """The command prefix for the worker whose clock is skewed, and a note for the report."""
    program = shutil.which("faketime")
    if program is None:
        return {}, "no skewed clock: faketime is not installed"
    rng = random.Random(f"{seed}:skew")
    worker, skew_s = rng.choice(list(roles(mode))), rng.choice((-1, 1)) * rng.randint(*SKEW_S)
    return {worker: [program, "-f", f"{skew_s:+d}s"]}, f"the clock of {worker} was off by {skew_s:+d} s"


@contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    if keep is not None:
        keep.mkdir(parents=True)
        yield keep.absolute()
        return
    with tempfile.TemporaryDirectory(prefix="saga-chaos-", ignore_cleanup_errors=True) as home:
        yield Path(home)


@contextmanager
def _progress(*, quiet: bool) -> Iterator[Callable[[str, float], None]]:
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=quiet or not console.is_terminal, transient=True) as progress:
        task = progress.add_task("", total=1.0)
        yield lambda what, share: progress.update(task, description=what, completed=share)


def as_dict(report: ChaosReport) -> dict[str, object]:
    """The report as `--json` prints it. `findings`: a sentence for each order that is lost, doubled or stuck."""
    verdict = report.verdict
    found = {"lost": verdict.lost, "doubled": verdict.doubled, "stuck": verdict.stuck}
    return {
        "mode": str(report.plan.mode),
        "seconds": report.plan.seconds,
        "seed": report.plan.seed,
        "injected": dict(report.injected),
        "observed": dict(report.observed),
        "orders": report.orders,
        "completed": report.completed,
        "rejected": dict(report.rejected),
        "withdrawals": report.withdrawals,
        "worker_restarts": report.restarts,
        "drained_s": round(report.drained_s, 1),
        **{name: len(sentences) for name, sentences in found.items()},
        "audit": {
            "ok": verdict.audit.ok,
            "findings": [{"promise": finding.promise, "ids": list(finding.ids)} for finding in verdict.audit.findings],
        },
        "findings": [sentence for sentences in found.values() for sentence in sentences],
        "vacuous": report.vacuous,
    }


def _print(report: ChaosReport, notes: Sequence[str]) -> None:
    figures = as_dict(report)
    table = Table(title=f"chaos, {report.plan.mode}, seed {report.plan.seed}, {report.plan.seconds:g} s", show_header=False)
    for name, count in report.injected.items():
        table.add_row(name, f"{count} times, took effect {report.observed[name]}")
    table.add_section()
    for name in ("orders", "completed"):
        table.add_row(name, str(figures[name]))
    for reason, count in report.rejected.items():
        table.add_row(f"rejected: {reason}", str(count))
    for name in ("withdrawals", "worker_restarts", "drained_s"):
        table.add_row(name.replace("_", " "), str(figures[name]))
    table.add_section()
    for name in ("lost", "doubled", "stuck"):
        table.add_row(name, f"[{'red' if figures[name] else 'green'}]{figures[name]}[/]")
    data.print(table)
    show_findings(report.verdict.audit)
    for sentences in (report.verdict.lost, report.verdict.doubled, report.verdict.stuck, notes):
        for sentence in sentences[:SENTENCES_MAX]:
            data.print(escape(sentence), highlight=False, soft_wrap=True)


def _stop_unless_ok(report: ChaosReport) -> None:
    verdict = report.verdict
    if not verdict.ok:
        counts = f"{len(verdict.lost)} lost, {len(verdict.doubled)} doubled, {len(verdict.stuck)} stuck"
        stop(Code.AUDIT_FAILED, f"{counts}{'' if verdict.audit.ok else ', and a promise does not hold'}.")
    if report.vacuous:
        stop(Code.AUDIT_FAILED, f"the run proves nothing: {report.vacuous}.")
