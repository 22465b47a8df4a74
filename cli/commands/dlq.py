"""`saga dlq list|show|requeue|discard`: the messages that a mode has given up.

The work is ops/dead_letters.py; this chooses and prints.
"""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from api.messages import NAME as DOOR
from bootstrap.connections import talking
from bootstrap.modes import Mode, roles, topology
from broker.transport import Transport, furnish
from cli.options import JsonFlag, ModeFlag
from cli.output import Code, data, print_json, run, stop
from cli.settings import load
from cli.typer_app import Program
from ops.dead_letters import Chosen, DeadLetter, dead_letters, with_door
from ops.dead_letters import discard as discard_letters
from ops.dead_letters import requeue as requeue_letters

group = Program(no_args_is_help=True, help="Look at the dead letters, send them back to work, or throw them away.")


def register(app: typer.Typer) -> None:
    """Add the commands to the app."""
    app.add_typer(group, name="dlq")


Ids = Annotated[list[str] | None, typer.Argument(help="Ids as `saga dlq list` shows them.")]
WorkerFlag = Annotated[str | None, typer.Option("--worker", help="Only the dead letters of this worker, or of the door.")]
ReasonFlag = Annotated[str | None, typer.Option("--reason", help="Only those with this reason.")]
AllFlag = Annotated[bool, typer.Option("--all", help="All of them, instead of ids.")]


@group.command("list", epilog="Example: saga dlq list --mode choreography --reason attempts_exhausted")
def list_(
    mode: ModeFlag = Mode.ORCHESTRATOR, worker: WorkerFlag = None, reason: ReasonFlag = None, as_json: JsonFlag = False
) -> None:
    """Every dead letter of a mode and of its HTTP door: whose, what, about which order, and why."""
    letters = [letter for letter in run(_look(mode, worker)) if reason in (None, letter.reason)]
    if as_json:
        print_json({"dead_letters": [letter.as_dict() for letter in letters]})
        return
    table = Table("id", "worker", "type", "order", "reason", "attempts", "detail")
    for letter in letters:
        told = letter.as_dict()
        names = ("id", "worker", "type", "order_id", "reason", "attempts", "detail")
        table.add_row(*(escape(str(told[name] or "")) for name in names))
    data.print(table if letters else f"the {mode} mode has no dead letters")


@group.command(epilog="Example: saga dlq show 0190a0a0-0000-7000-8000-000000000000 --mode choreography")
def show(
    letter_id: Annotated[str, typer.Argument(metavar="ID", help="As `saga dlq list` shows it.")],
    mode: ModeFlag = Mode.ORCHESTRATOR,
    as_json: JsonFlag = False,
) -> None:
    """One dead letter, whole: reason, headers and body."""
    found = [letter for letter in run(_look(mode, None)) if letter.id == letter_id]
    if not found:
        stop(Code.FAILED, f"the {mode} mode has no dead letter {letter_id!r}. `saga dlq list --mode {mode}` shows what it has.")
    whole = {**found[0].as_dict(), "headers": _plain(found[0].wire.headers), "body": found[0].wire.body.decode(errors="replace")}
    if as_json:
        print_json(whole)
        return
    for name, value in whole.items():
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
    """Send dead letters back to their worker with a fresh budget, without injected failures; misrouted ones stay."""
    done = run(_each(mode, worker, _chosen(ids, everything, reason), requeue_letters))
    _report("requeued", done, ids, mode, as_json=as_json)


@group.command(epilog="Example: saga dlq discard 0190a0a0-0000-7000-8000-000000000000 --yes")
def discard(
    ids: Ids = None,
    mode: ModeFlag = Mode.ORCHESTRATOR,
    everything: AllFlag = False,
    worker: WorkerFlag = None,
    reason: ReasonFlag = None,
    yes: Annotated[bool, typer.Option("--yes", help="They are gone for good; their orders may stay open.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Throw dead letters away."""
    chosen = _chosen(ids, everything, reason)
    if not yes:
        stop(Code.USAGE, "discarded messages are gone for good, and the orders that wait for them may never end. Say --yes.")
    done = run(_each(mode, worker, chosen, discard_letters))
    _report("discarded", done, ids, mode, as_json=as_json)


def _chosen(ids: list[str] | None, everything: bool, reason: str | None) -> Chosen:
    if bool(ids) == everything:
        stop(Code.USAGE, "name the ids that `saga dlq list` shows, or say --all.")
    wanted = set(ids or ())
    return lambda letter: (everything or letter.id in wanted) and reason in (None, letter.reason)


def _report(what: str, done: list[DeadLetter], ids: list[str] | None, mode: Mode, *, as_json: bool) -> None:
    if as_json:
        print_json({what: [letter.as_dict() for letter in done]})
    else:
        data.print(f"{what}: {len(done)}", highlight=False)
    missing = sorted(set(ids or ()) - {letter.id for letter in done})
    if missing:
        stop(Code.FAILED, f"the {mode} mode has no dead letter {', '.join(missing)}, or could not let go of it.")


def _workers(mode: Mode, worker: str | None) -> list[str]:
    names = [*roles(mode), DOOR]
    if worker and worker not in names:
        stop(Code.USAGE, f"the {mode} mode has no worker {worker!r}. It has {', '.join(names)}.")
    return [worker] if worker else names


async def _look(mode: Mode, worker: str | None) -> list[DeadLetter]:
    names = _workers(mode, worker)
    async with _talking(mode) as transport:
        return await dead_letters(transport, with_door(topology(mode)), names)


async def _each(mode: Mode, worker: str | None, chosen: Chosen, act: Callable[..., Any]) -> list[DeadLetter]:
    done: list[DeadLetter] = []
    for name in _workers(mode, worker):
        async with _talking(mode) as transport:  # one for each queue: it consumes
            done += await act(transport, with_door(topology(mode)), name, chosen)
    return done


@asynccontextmanager
async def _talking(mode: Mode) -> AsyncIterator[Transport]:
    """A client for one look at the dead letters, which may be the first that this broker hears of the mode."""
    async with talking(load().parts(mode), "dlq") as transport:
        await furnish(transport, topology(mode))
        yield transport


def _plain(value: Any) -> Any:  # noqa: ANN401 - whatever a header holds
    """What JSON can carry of a header's value."""
    if isinstance(value, dict):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)
