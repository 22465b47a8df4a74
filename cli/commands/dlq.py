"""`saga dlq list|show|requeue|discard`: the dead letters of a mode.

The operations are in ops/dead_letters.py. This module selects and prints.
"""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from api.messages import NAME as API
from bootstrap.connections import open_transport
from bootstrap.modes import Mode, roles, topology
from broker.transport import Transport, declare_or_check
from cli.options import JsonFlag, ModeFlag
from cli.output import Code, data, print_json, run, stop
from cli.settings import load
from cli.typer_app import TyperApp
from ops.dead_letters import DeadLetter, DeadLetterFilter, dead_letters, with_api
from ops.dead_letters import discard as discard_letters
from ops.dead_letters import requeue as requeue_letters

group = TyperApp(no_args_is_help=True, help="List and show dead letters, requeue them, or discard them.")


def register(app: typer.Typer) -> None:
    """Add the commands to the app."""
    app.add_typer(group, name="dlq")


Ids = Annotated[list[str] | None, typer.Argument(help="Ids as `saga dlq list` shows them.")]
WorkerFlag = Annotated[str | None, typer.Option("--worker", help="Only the dead letters of this worker; `api` is the HTTP API.")]
ReasonFlag = Annotated[str | None, typer.Option("--reason", help="Only dead letters with this reason.")]
AllFlag = Annotated[bool, typer.Option("--all", help="All dead letters, instead of ids.")]


@group.command("list", epilog="Example: saga dlq list --mode choreography --reason attempts_exhausted")
def list_(
    mode: ModeFlag = Mode.ORCHESTRATOR, worker: WorkerFlag = None, reason: ReasonFlag = None, as_json: JsonFlag = False
) -> None:
    """List the dead letters of a mode and of its HTTP API: worker, type, order and reason."""
    letters = [letter for letter in run(_list_letters(mode, worker)) if reason in (None, letter.reason)]
    if as_json:
        print_json({"dead_letters": [letter.as_dict() for letter in letters]})
        return
    table = Table("id", "worker", "type", "order", "reason", "attempts", "detail")
    for letter in letters:
        row = letter.as_dict()
        names = ("id", "worker", "type", "order_id", "reason", "attempts", "detail")
        table.add_row(*(escape(str(row[name] or "")) for name in names))
    data.print(table if letters else f"the {mode} mode has no dead letters")


@group.command(epilog="Example: saga dlq show 0190a0a0-0000-7000-8000-000000000000 --mode choreography")
def show(
    letter_id: Annotated[str, typer.Argument(metavar="ID", help="As `saga dlq list` shows it.")],
    mode: ModeFlag = Mode.ORCHESTRATOR,
    as_json: JsonFlag = False,
) -> None:
    """Show one dead letter in full: reason, headers and body."""
    found = [letter for letter in run(_list_letters(mode, None)) if letter.id == letter_id]
    if not found:
        stop(Code.FAILED, f"the {mode} mode has no dead letter {letter_id!r}. List those it has: saga dlq list --mode {mode}.")
    document = {
        **found[0].as_dict(),
        "headers": _json_value(found[0].wire.headers),
        "body": found[0].wire.body.decode(errors="replace"),
    }
    if as_json:
        print_json(document)
        return
    for name, value in document.items():
        data.print(f"{name + ':':12} {json.dumps(value) if isinstance(value, dict) else value}", markup=False, highlight=False)


@group.command(epilog="Example: saga dlq requeue --all --reason attempts_exhausted --mode choreography")
def requeue(
    ids: Ids = None,
    mode: ModeFlag = Mode.ORCHESTRATOR,
    everything: AllFlag = False,
    worker: WorkerFlag = None,
    reason: ReasonFlag = None,
    as_json: JsonFlag = False,
) -> None:
    """Send dead letters back to their worker with a new retry budget and without injected failures. Misrouted ones stay."""
    done = run(_apply(mode, worker, _selection(ids, everything, reason), requeue_letters))
    _report("requeued", done, ids, mode, as_json=as_json)


@group.command(epilog="Example: saga dlq discard 0190a0a0-0000-7000-8000-000000000000 --yes")
def discard(
    ids: Ids = None,
    mode: ModeFlag = Mode.ORCHESTRATOR,
    everything: AllFlag = False,
    worker: WorkerFlag = None,
    reason: ReasonFlag = None,
    yes: Annotated[bool, typer.Option("--yes", help="Confirm: the messages are lost, and their orders may stay open.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Discard dead letters."""
    selection = _selection(ids, everything, reason)
    if not yes:
        stop(Code.USAGE, "discarded messages are lost, and the orders that wait for them may never end. Confirm with --yes.")
    done = run(_apply(mode, worker, selection, discard_letters))
    _report("discarded", done, ids, mode, as_json=as_json)


def _selection(ids: list[str] | None, everything: bool, reason: str | None) -> DeadLetterFilter:
    if bool(ids) == everything:
        stop(Code.USAGE, "name ids that `saga dlq list` shows, or use --all, but not both.")
    wanted = set(ids or ())
    return lambda letter: (everything or letter.id in wanted) and reason in (None, letter.reason)


def _report(what: str, done: list[DeadLetter], ids: list[str] | None, mode: Mode, *, as_json: bool) -> None:
    if as_json:
        print_json({what: [letter.as_dict() for letter in done]})
    else:
        data.print(f"{what}: {len(done)}", highlight=False)
    missing = sorted(set(ids or ()) - {letter.id for letter in done})
    if missing:
        stop(
            Code.FAILED,
            f"the {mode} mode has no dead letter {', '.join(missing)}, or could not remove it. List them: saga dlq list.",
        )


def _workers(mode: Mode, worker: str | None) -> list[str]:
    names = [*roles(mode), API]
    if worker and worker not in names:
        stop(Code.USAGE, f"the {mode} mode has no worker {worker!r}. Use one of {', '.join(names)}.")
    return [worker] if worker else names


async def _list_letters(mode: Mode, worker: str | None) -> list[DeadLetter]:
    names = _workers(mode, worker)
    async with _connect(mode) as transport:
        return await dead_letters(transport, with_api(topology(mode)), names)


async def _apply(mode: Mode, worker: str | None, selection: DeadLetterFilter, act: Callable[..., Any]) -> list[DeadLetter]:
    done: list[DeadLetter] = []
    for name in _workers(mode, worker):
        async with _connect(mode) as transport:  # one for each queue that is consumed
            done += await act(transport, with_api(topology(mode)), name, selection)
    return done


@asynccontextmanager
async def _connect(mode: Mode) -> AsyncIterator[Transport]:
    """Connect to the broker, and declare the topology in case the mode never ran on it."""
    async with open_transport(load().backend(mode), "dlq") as transport:
        await declare_or_check(transport, topology(mode))
        yield transport


def _json_value(value: Any) -> Any:  # noqa: ANN401 - a header holds any AMQP value
    """A header's value as JSON, with other types as text."""
    if isinstance(value, dict):
        return {str(name): _json_value(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_json_value(item) for item in value]
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)
