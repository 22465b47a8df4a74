"""`saga storm`: places many orders at once, then audits and reports.

The storm is lab/storm.py. This module parses options, shows progress and prints the report.
"""

from contextlib import AsyncExitStack
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from api.http_client import HttpOrderClient
from api.sample_orders import LoadPlan
from bootstrap.connections import open_stores
from bootstrap.modes import Mode
from cli.findings_view import show_findings
from cli.http_orders import exit_on_api_error
from cli.options import JsonFlag, ModeFlag, ViaFlag, parse_failures, refuse_unless_faults
from cli.output import Code, console, data, print_json, run, stop
from cli.settings import load
from lab.storm import Storm, StormReport, percentile_ms
from services.faults import InvalidFault, parse_share

PERCENTILES = (50, 95, 99)


def parse_rates(texts: list[str]) -> dict[str, float]:
    """Parse `payment:declined=30%` to 0.3, for each. Stops with exit code 2 when one is invalid."""
    try:
        rates = dict(map(parse_share, texts))
    except InvalidFault as error:
        stop(Code.USAGE, str(error))
    parse_failures(list(rates))
    return rates


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command(epilog="Example: saga storm --mode choreography --orders 2000 --in-flight 100 --fail payment:declined=30%")(storm)


def storm(
    mode: ModeFlag = Mode.ORCHESTRATOR,
    orders: Annotated[int, typer.Option(min=1, max=1_000_000, help="Number of orders.")] = 1000,
    in_flight: Annotated[int, typer.Option(min=1, max=100_000, help="The most orders at once.")] = 100,
    rate: Annotated[float | None, typer.Option(min=0.01, help="Orders a second (default: as fast as they end).")] = None,
    fail: Annotated[list[str] | None, typer.Option(help="SERVICE:FAILURE=PERCENT, at most one per service.")] = None,
    seed: Annotated[int, typer.Option(help="Decides order lines and failures; the same in both modes.")] = 1,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds after which an open order counts as unfinished.")] = 120.0,
    via: ViaFlag = None,
    as_json: JsonFlag = False,
) -> None:
    """Place many orders, wait until all have ended, audit, report. Exit 3 when a promise does not hold."""
    failures = parse_rates(fail or [])
    plan = LoadPlan(orders, in_flight, rate, failures, seed, timeout)
    report = run(_storm(mode, plan, via))
    if as_json:
        print_json(as_dict(report))
    else:
        _print(report)
    if report.unfinished:
        stop(
            Code.AUDIT_FAILED,
            f"{report.unfinished} of {orders} orders are open after {timeout:g} s. List them: saga order list --state PENDING.",
        )
    if not report.audit.ok:
        stop(Code.AUDIT_FAILED, "a promise does not hold. The findings are above.")


async def _storm(mode: Mode, plan: LoadPlan, via: str | None) -> StormReport:
    backend = load().backend(mode)
    async with open_stores(mode, backend) as seen:
        await refuse_unless_faults(seen, list(plan.failures))
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    async with AsyncExitStack() as stack:
        stack.enter_context(exit_on_api_error())
        client = await stack.enter_async_context(HttpOrderClient(via)) if via else None
        progress = stack.enter_context(Progress(*columns, console=console, disable=not console.is_terminal))
        task = progress.add_task(f"{mode}: orders ended", total=plan.orders)
        storm = Storm(mode, backend, plan, http_client=client, progress=lambda _, ended: progress.update(task, completed=ended))
        return await storm.run()


def as_dict(report: StormReport) -> dict[str, object]:
    """The report as `--json` prints it. Percentiles are in ms, null when infinite or when there are no such orders."""
    ended = len(report.sent_orders) - report.unfinished
    clean = [sent_order for sent_order in report.sent_orders if not sent_order.injected]
    return {
        "mode": str(report.mode),
        "seed": report.plan.seed,
        "in_flight": report.plan.in_flight,
        "orders": report.plan.orders,
        "ended": ended,
        "unfinished": report.plan.orders - ended,
        "completed": report.completed,
        "rejected": dict(report.rejected),
        "needs_attention": report.needs_attention,
        "seconds": round(report.seconds, 3),
        "rate_per_s": round(ended / report.seconds, 1) if report.seconds > 0 else None,
        **{f"p{percent}_ms": percentile_ms(report.sent_orders, percent) for percent in PERCENTILES},
        "clean": {f"p{percent}_ms": percentile_ms(clean, percent) for percent in PERCENTILES},
        "injected": dict(report.injected),
        "observed": dict(report.observed),
        "audit": {
            "ok": report.audit.ok,
            "findings": [{"promise": finding.promise, "ids": list(finding.ids)} for finding in report.audit.findings],
        },
    }


def _print(report: StormReport) -> None:
    figures = as_dict(report)
    table = Table(title=f"storm, {report.mode}, seed {report.plan.seed}", show_header=False)
    for name in ("orders", "ended", "unfinished", "completed", "needs_attention", "seconds", "rate_per_s"):
        table.add_row(name.replace("_", " "), str(figures[name]))
    for reason, count in report.rejected.items():
        table.add_row(f"rejected: {reason}", str(count))
    for failure, count in report.injected.items():
        table.add_row(f"injected {failure}", f"{count}, took effect {report.observed[failure]}")
    for percent in PERCENTILES:
        value = figures[f"p{percent}_ms"]
        table.add_row(f"p{percent}", f"{value} ms" if value is not None else "infinite")
    data.print(table)
    show_findings(report.audit)
