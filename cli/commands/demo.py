"""`saga demo`: journeys in both modes side by side, in this process, without servers.

The journeys are those of lab/journeys/catalogue.py, on the in-memory back end and virtual time. `--serve` serves the dashboard
with both modes at work instead (dashboard/demo_server.py), until Ctrl-C.
"""

import asyncio
import logging
from dataclasses import dataclass
from itertools import zip_longest
from typing import Annotated

import structlog
import typer
from rich.table import Table
from rich.text import Text

from bootstrap.memory_backend import MemoryBackend
from bootstrap.modes import Mode, topology
from cli.history_view import arrow as render_arrow
from cli.history_view import history_as_json, print_history
from cli.output import Code, data, exit_on_error, listen, print_json, stop
from dashboard.schemas import SEED_MAX
from lab.journeys.catalogue import DEMO_JOURNEYS, INITIAL_STOCK, JOURNEYS, Journey
from lab.journeys.message_log import LoggedMessage, MessageLog, count_repeated
from lab.journeys.run import JourneyResult, JourneyRun
from lab.system import System, run_observer, set_up_stock
from lab.virtual_time import run_on_virtual_time
from observer.history import History
from observer.mermaid import sequence_diagram
from observer.queries import history_of
from observer.recorder import NAME as OBSERVER

#: Port of the dashboard. The HTTP API's (8080) and the payment gateway's (8090) may be in use.
PORT = 8070
#: In longer flows, equal arrows are counted together.
ARROWS_SHOWN = 30


@dataclass(frozen=True, slots=True)
class JourneyReport:
    """One journey in one mode, with its messages. `seconds`: virtual time from the first order to rest. `history`: that of the
    first order, as the observer recorded it."""

    journey: Journey
    result: JourneyResult
    flow: list[LoggedMessage]
    seconds: float
    history: History

    def as_dict(self, *, explain: bool) -> dict[str, object]:
        """The run as `--json` prints it; `explain` adds the history of its first order."""
        history = {"explained": history_as_json(self.history, self.history.moved_at)} if explain else {}
        return {
            "journey": self.journey.name,
            "mode": str(self.result.mode),
            "state": ", ".join(_state_counts(self.result.ends)),
            "reason": ", ".join(sorted({reason for reason in self._reasons() if reason})) or None,
            "messages": len(self.flow),
            "compensations": list(self.result.compensations),
            "balanced": self.result.audit.ok,
            **history,
        }

    def _reasons(self) -> list[str]:
        return [end.partition(" ")[2] for end in self.result.ends]


def _state_counts(ends: dict[str, int]) -> list[str]:
    """`1 COMPLETED`, `19 REJECTED`; a single order without its number."""
    counted: dict[str, int] = {}
    for end, count in ends.items():
        state = end.partition(" ")[0]
        counted[state] = counted.get(state, 0) + count
    return list(counted) if sum(counted.values()) == 1 else [f"{count} {state}" for state, count in counted.items()]


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command(epilog="Example: saga demo --journey undeliverable --explain")(demo)


def demo(
    journey: Annotated[str | None, typer.Option(help="Only this journey, or `all` (default: one of each kind).")] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Explain what happened to each journey's first order.")] = False,
    mermaid: Annotated[bool, typer.Option("--mermaid", help="Print only its path, as a Mermaid sequence diagram.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
    serve: Annotated[
        bool, typer.Option("--serve", help="Serve the dashboard until Ctrl-C. The options below are for it.")
    ] = False,
    port: Annotated[int, typer.Option(min=0, max=65_535, help="Port; 0 takes a free one.")] = PORT,
    host: Annotated[str, typer.Option(help="Address to listen on. There is no log-in: keep it private.")] = "127.0.0.1",
    seed: Annotated[int, typer.Option(min=0, max=SEED_MAX, help="Decides the random orders.")] = 1,
    pace: Annotated[float, typer.Option(min=0, max=5, help="Seconds that each message takes, for a viewer.")] = 0.25,
) -> None:
    """Run the journeys in both modes side by side, without servers: the messages, the end, and whether the books balance."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    if serve:
        if journey or explain or mermaid or as_json:
            stop(Code.USAGE, "--serve shows orders placed on the page. Leave out --journey, --explain, --mermaid and --json.")
        _serve(host, port, seed=seed, pace_s=pace)
        return
    shown = [_run_both_modes(chosen, quiet=as_json or explain or mermaid) for chosen in _select_journeys(journey)]
    runs = [run for pair in shown for run in pair]
    if as_json:
        print_json({"runs": [run.as_dict(explain=explain) for run in runs]})
    elif mermaid:
        _print_diagrams(runs)
    elif explain:
        _print_histories(runs)
    else:
        _print_summary(shown)
    wrong = [run for run in runs if run.result.ends != run.journey.ends or not run.result.audit.ok]
    if wrong:
        names = ", ".join(f"{run.journey.name} ({run.result.mode})" for run in wrong)
        stop(Code.FAILED, f"these journeys did not end as expected: {names}. This is a bug. See why: --journey NAME --explain.")


def _select_journeys(name: str | None) -> list[Journey]:
    if name is None:
        return [JOURNEYS[shown] for shown in DEMO_JOURNEYS]
    if name == "all":
        return list(JOURNEYS.values())
    if name not in JOURNEYS:
        stop(Code.USAGE, f"there is no journey {name!r}. Use one of: all, {', '.join(JOURNEYS)}.")
    return [JOURNEYS[name]]


def _run_both_modes(journey: Journey, *, quiet: bool) -> tuple[JourneyReport, JourneyReport]:
    left, right = (run_on_virtual_time(_run(journey, mode)) for mode in Mode)
    if not quiet:
        _print_pair(left, right)
    return left, right


async def _run(journey: Journey, mode: Mode) -> JourneyReport:
    backend = MemoryBackend(mode)
    recorder = MessageLog(topology(mode))
    backend.broker.on_publish.append(recorder.record)
    async with System(mode, backend) as system:
        await set_up_stock(system.stores["inventory"], INITIAL_STOCK)
        run = JourneyRun(system)
        began = backend.environment.now()
        async with run_observer(system):
            await journey.script(run)
            result = await run.result()
            seconds = backend.environment.now() - began
        history = await history_of(backend.store(OBSERVER), mode, run.order_ids[0])
        assert history is not None  # noqa: S101 - the observer has recorded every message
        return JourneyReport(journey, result, recorder.messages(), seconds, history)


def _print_pair(left: JourneyReport, right: JourneyReport) -> None:
    table = Table(title=left.journey.title, title_justify="left", title_style="bold", expand=True)
    for shown in (left, right):
        table.add_column(f"{shown.result.mode}", ratio=1, overflow="fold")
    for arrows in zip_longest(_lines(left), _lines(right), fillvalue=Text()):
        table.add_row(*arrows)
    table.add_section()
    table.add_row(_verdict(left), _verdict(right))
    data.print(table)


def _lines(shown: JourneyReport) -> list[Text]:
    if len(shown.flow) <= ARROWS_SHOWN:
        return [_line(arrow) for arrow in shown.flow]
    return [_line(arrow, count) for arrow, count in count_repeated(shown.flow)]


def _line(arrow: LoggedMessage, count: int = 1) -> Text:
    line = render_arrow(arrow.sender, arrow.receivers, arrow.name, command=arrow.command, rollback=arrow.rollback)
    if count > 1:
        line.append(f"  x{count}", style="dim")
    return line


def _verdict(shown: JourneyReport) -> Text:
    ends = ", ".join(f"{count} {end}" if len(shown.result.ends) > 1 else end for end, count in shown.result.ends.items())
    verdict = Text(ends, style="bold")
    verdict.append(f"\n{len(shown.flow)} messages", style="not bold")
    verdict.append(f", undone: {' then '.join(shown.result.compensations) or 'nothing'}", style="not bold")
    verdict.append(f", {shown.seconds:.1f} s of virtual time", style="not bold dim")
    balanced = shown.result.audit.ok
    verdict.append(
        "\nbooks balance" if balanced else "\nBOOKS DO NOT BALANCE", style="not bold green" if balanced else "bold red"
    )
    return verdict


def _print_diagrams(runs: list[JourneyReport]) -> None:
    for run in runs:
        typer.echo(f"%% {run.journey.title}, {run.result.mode}\n{sequence_diagram(run.history)}\n")


def _print_histories(runs: list[JourneyReport]) -> None:
    for run in runs:
        data.print(f"\n{run.journey.title}", style="bold")
        print_history(run.history, run.history.moved_at)


def _print_summary(shown: list[tuple[JourneyReport, JourneyReport]]) -> None:
    if len(shown) > 1:
        table = Table(title="messages for each journey", title_justify="left", title_style="bold")
        table.add_column("journey")
        table.add_column("ends")
        for mode in Mode:
            table.add_column(str(mode), justify="right")
        for left, right in shown:
            ends = ", ".join(_state_counts(left.result.ends))
            table.add_row(left.journey.title, ends, str(len(left.flow)), str(len(right.flow)))
        data.print(table)
    data.print(
        "commands ──▶   events ┄┄▷   rollbacks ↩   · no worker acts on it\n"
        "No server ran: broker, databases and payment gateway were in memory, on virtual time.\n"
        "On real servers: make up MODE=choreography, then saga order place, saga storm, saga audit.",
        style="dim",
        highlight=False,
    )


def _serve(host: str, port: int, *, seed: int, pace_s: float) -> None:
    """Serve the dashboard. Stops with exit code 1 when the port is taken."""
    from dashboard.demo_server import serve_demo  # noqa: PLC0415 - an HTTP server, which the demo in a terminal does not need

    remedy = "Choose another --port, or 0 for a free one."
    listener = listen(host, port, backlog=128, problem="the dashboard cannot be served", remedy=remedy)
    address, bound_port = listener.getsockname()[:2]

    def print_url() -> None:
        data.print(f"The dashboard is at http://{address}:{bound_port}/  (Ctrl-C stops it)", highlight=False, soft_wrap=True)

    with exit_on_error(), listener:
        asyncio.run(serve_demo(listener, seed=seed, pace_s=pace_s, ready=print_url))
