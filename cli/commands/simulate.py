"""`saga simulate`: many runs of the real workers in memory and on virtual time, each with the faults that its seed decides.

The simulator is lab/simulation/. This module parses options, shows progress and prints the summary.
"""

from typing import Annotated

import typer
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from bootstrap.modes import Mode
from cli.options import JsonFlag
from cli.output import Code, console, data, exit_on_error, print_json, stop
from lab.simulation.campaign import CampaignSummary, as_dict, compare_modes, run_campaign, silence_logs
from lab.simulation.plan import draw_plan
from lab.simulation.run import RunOutcome
from lab.simulation.run import simulate as simulate_plan
from lab.simulation.shrink import shrink

#: Failing seeds that are shrunk to the faults they need; the others are listed.
SHRINK_MAX = 3


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command(
        epilog="Example: saga simulate --seeds 2000, or to see one run: saga simulate --seed 7 --mode choreography --trace"
    )(simulate)


def simulate(
    seeds: Annotated[
        int | None, typer.Option(min=1, max=10_000_000, help="Number of seeds (default: 100, or 1 with --seed).")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="The first seed.")] = None,
    mode: Annotated[
        Mode | None, typer.Option("--mode", "-m", help="Only this mode (default: both, and against each other).")
    ] = None,
    trace: Annotated[bool, typer.Option("--trace", help="Print the run of --seed line by line.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Search for lost, doubled and stuck orders, without servers, with all faults from a seed. Exit 3 when one is found."""
    modes = [mode] if mode else list(Mode)
    if trace:
        if seed is None or (seeds or 1) != 1:
            stop(Code.USAGE, "--trace shows one run. Use it with --seed and without --seeds.")
        _trace(seed, modes)
        return
    count = seeds or (100 if seed is None else 1)
    with exit_on_error():
        summary = _campaign(seed or 1, count, modes, quiet=as_json)
    if as_json:
        print_json(as_dict(summary))
    else:
        _print(summary)
        _print_findings(summary)
    if summary.failures:
        stop(
            Code.AUDIT_FAILED,
            f"{len(summary.failures)} findings in {len({f[0] for f in summary.failures})} seeds. They are above.",
        )


def _campaign(first: int, seeds: int, modes: list[Mode], *, quiet: bool) -> CampaignSummary:
    columns = (TextColumn("simulating"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    runs_a_seed = len(modes) + (len(modes) > 1)
    with Progress(*columns, console=console, disable=quiet, transient=True) as progress:
        bar = progress.add_task("", total=seeds)
        return run_campaign(first, seeds, modes, lambda so_far: progress.update(bar, completed=so_far.runs // runs_a_seed))


def _print(summary: CampaignSummary) -> None:
    figures = as_dict(summary)
    table = Table(title="simulation", show_header=False)
    for name in ("seeds", "orders", "seconds", "seeds_per_s", "completed"):
        table.add_row(name.replace("_", " "), str(figures[name]))
    for reason, count in summary.rejected.items():
        table.add_row(f"rejected: {reason}", str(count))
    table.add_row("orders with a compensation", str(summary.compensations))
    table.add_row("duplicates dropped", str(summary.duplicates))
    for kind, count in sorted(summary.faults.items()):
        table.add_row(f"fault: {kind}", str(count))
    data.print(table)
    data.print("[green]no checker found a violation[/]" if not summary.failures else "[red]checkers found:[/]")


def _print_findings(summary: CampaignSummary) -> None:
    """Print each finding, and for the first failing seeds the faults that are needed to reproduce it."""
    silence_logs()
    shrunk: set[tuple[int, Mode]] = set()
    for seed, mode, finding in summary.failures:
        data.print(f"seed {seed}, {mode}: [bold]{finding.checker}[/]: {escape(finding.detail)}", highlight=False)
        if len(shrunk) < SHRINK_MAX and (seed, mode) not in shrunk and simulate_plan(draw_plan(seed, mode)).failed:
            shrunk.add((seed, mode))
            plan, outcome = shrink(draw_plan(seed, mode), simulate_plan)
            faults = "; ".join(map(str, plan.faults)) or "none"
            data.print(f"  faults needed: {faults}", highlight=False, markup=False)
            data.print(f"  result: {outcome.violations[0].detail}", highlight=False, markup=False)
            data.print(f"  reproduce: saga simulate --seed {seed} --mode {mode} --trace", highlight=False)


def _trace(seed: int, modes: list[Mode]) -> None:
    silence_logs()
    outcomes = [simulate_plan(draw_plan(seed, mode)) for mode in modes]
    for outcome in outcomes:
        data.print(f"[bold]seed {seed}, {outcome.mode}[/]", highlight=False)
        data.print("\n".join(outcome.trace), markup=False, highlight=False, soft_wrap=True)
        ends = ", ".join(f"order {number} {end}" for number, end in outcome.ends.items())
        data.print(f"ends: {ends}. trace {outcome.digest[:16]}", markup=False, highlight=False)
    both = [compare_modes(seed)] if len(modes) > 1 else []
    failed: list[RunOutcome] = [outcome for outcome in (*outcomes, *both) if outcome.failed]
    if failed:
        stop(Code.AUDIT_FAILED, "; ".join(f"{finding.checker}: {finding.detail}" for o in failed for finding in o.violations))
