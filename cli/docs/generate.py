"""Writes the generated parts of README.md and docs/: `python -m cli.docs.generate`, or `make docs`.

A generated part stands between two marker comments; tests/docs/test_docs.py fails when one is stale.
"""

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from typer.core import TyperGroup
from typer.main import get_command
from typer.testing import CliRunner

from bootstrap.modes import Mode, topology
from broker.message import Command
from choreography.reactions import REACTIONS
from cli.app import app
from cli.docs import reference
from observer.mermaid import flowchart
from observer.message_flow import MESSAGE_FLOWS
from observer.recorder import NAME as OBSERVER
from ops.permissions import OPERATOR, accounts, commands_sent_by
from orchestrator.fulfilment import FULFILMENT
from services.message_types import API_COMMANDS, CATALOGUE, NEVER_SENT, SERVICES

ROOT = Path(__file__).parents[2]


def both_sequences() -> str:
    """The saga and the reactions, as they stand in the code."""
    saga = _text_after(ROOT / "orchestrator/fulfilment.py", "# fmt: off\n")
    reactions = _text_after(ROOT / "choreography/reactions.py", "# fmt: off\n")
    return (
        f"**`orchestrator/fulfilment.py`**: one coordinator knows the sequence.\n\n```python\n{saga}```\n\n"
        f"**`choreography/reactions.py`**: each service knows its own reactions.\n\n```python\n{reactions}```"
    )


def _text_after(path: Path, marker: str) -> str:
    return path.read_text().partition(marker)[2]


def diagrams() -> str:
    """Both modes as `saga diagram` draws them."""
    return "\n\n".join(f"{mode}:\n\n```mermaid\n{flowchart(MESSAGE_FLOWS[mode])}\n```" for mode in Mode)


def messages() -> str:
    """Every message on the broker as a table: kind, fields, and recipients in each mode."""
    rows = ["| message | kind | carries | orchestrator | choreography |", "| --- | --- | --- | --- | --- |"]
    for name, kind in sorted(CATALOGUE.items()):
        if kind not in NEVER_SENT:
            what = "command" if issubclass(kind, Command) else "event"
            recipients = " | ".join(_receivers(name, mode) for mode in Mode)
            rows.append(f"| `{name}` | {what} | {', '.join(kind.model_fields)} | {recipients} |")
    return "\n".join(rows)


def _receivers(name: str, mode: Mode) -> str:
    """The workers that handle a message in a mode; `-` when it is not sent there, `no worker` for an event that none takes."""
    kind = CATALOGUE[name]
    if issubclass(kind, Command):
        travels = mode is Mode.ORCHESTRATOR or kind in API_COMMANDS
        return kind.service if travels else "-"
    return ", ".join(queue.worker for queue in topology(mode).queues if name in queue.listens_to) or "no worker"


def steps() -> str:
    """The saga as a table."""
    rows = ["| | step | success | refused | undo | undone |", "| --- | --- | --- | --- | --- | --- |"]
    for number, step in enumerate(FULFILMENT.steps):
        kind = "pivot" if step.pivot else "retriable" if step.retriable else "compensatable"
        named = (step.command, step.success, step.refused, step.undo, step.undone)
        rows.append(f"| {number}, {kind} | " + " | ".join(part.__name__ if part else "-" for part in named) + " |")
    return "\n".join(rows)


def reactions() -> str:
    """The reactions as a table."""
    rows = ["| when | this service | does |", "| --- | --- | --- |"]
    rows += [f"| {reaction.when.__name__} | {reaction.by} | {reaction.does.__name__} |" for reaction in REACTIONS]
    return "\n".join(rows)


def commands() -> str:
    """The help of every command."""
    return "\n\n".join(f"## `{name}`\n\n```text\n{command_help(name)}\n```" for name in command_lines())


def command_lines() -> Iterator[str]:
    """`saga` itself, then every command and group, each group before its commands."""
    return _names(get_command(app), "saga")


def _names(command: object, path: str) -> Iterator[str]:
    yield path
    if isinstance(command, TyperGroup):
        for name, inner in command.commands.items():
            if not inner.hidden:
                yield from _names(inner, f"{path} {name}")


def command_help(name: str) -> str:
    """What `saga ... --help` prints, in plain text of a fixed width."""
    result = CliRunner().invoke(app, [*name.split()[1:], "--help"], env={"COLUMNS": "110", "TERM": "dumb", "NO_COLOR": "1"})
    return "\n".join(line.rstrip() for line in result.output.strip().splitlines())


def permissions() -> str:
    """Every account of the container stack with its permissions, as a table."""
    rows = [
        "| account | consumes | sends the commands | publishes the events | reads and writes |",
        "| --- | --- | --- | --- | --- |",
    ]
    for account in (account for mode in Mode for account in accounts(mode)):
        if account.worker == OPERATOR:
            allowed = "every queue", "all", "all"
        else:
            commands = ", ".join(f"`{name}`" for name in commands_sent_by(account.mode, account.worker)) or "none"
            queue = "its own queue, which gets every message" if account.worker == OBSERVER else "its own queue"
            allowed = queue, commands, f"`{account.worker}.*`" if account.worker in SERVICES else "none"
        databases = "every database of the mode" if account.worker == OPERATOR else f"`{account.databases[0]}`"
        rows.append(f"| `{account.name}` | " + " | ".join(allowed) + f" | {databases} |")
    return "\n".join(rows)


#: File -> marker -> function that writes the part.
GENERATED_PARTS: dict[str, dict[str, Callable[[], str]]] = {
    "README.md": {"rooms": both_sequences},
    "docs/design.md": {"pictures": diagrams},
    "docs/reference/messages.md": {"messages": messages, "steps": steps, "reactions": reactions},
    "docs/security.md": {"rights": permissions},
    "docs/reference/cli.md": {"commands": commands},
}
GENERATED_PARTS |= reference.PARTS


def regenerated(path: str) -> str:
    """The text of a file with its generated parts written anew. Raises LookupError when the file lacks a marker."""
    text = (ROOT / path).read_text()
    for marker, write in GENERATED_PARTS[path].items():
        pattern = re.compile(f"(<!-- generated: {marker} -->\n).*?(\n<!-- end -->)", re.DOTALL)
        if not pattern.search(text):
            raise LookupError(f"{path} has no `<!-- generated: {marker} -->` that ends with `<!-- end -->`; add both lines")
        text = pattern.sub(lambda match, write=write: match[1] + write() + match[2], text)  # type: ignore[misc]
    return text


def main() -> None:
    """Write every generated part anew."""
    for path in GENERATED_PARTS:
        (ROOT / path).write_text(regenerated(path))
        sys.stderr.write(f"{path} is up to date\n")


if __name__ == "__main__":
    main()
