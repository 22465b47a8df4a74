"""The `saga` program: its commands, and the main function.

Each command has a module of its name in cli/commands/, which is imported when the command is used. Importing all of them takes
longer than a worker takes to start.
"""

from collections.abc import Iterator, Mapping
from importlib import import_module
from importlib.metadata import version
from typing import Annotated, Any

import typer
from typer.main import get_group

from cli.output import data
from cli.typer_app import Group, TyperApp

#: In the order of the help. Each is a module of cli/commands/ with a function `register`.
COMMANDS = (
    "demo", "diagram", "up", "worker", "watch", "api", "storm", "simulate", "matrix", "chaos", "audit", "reset", "doctor",
    "order", "stock", "dlq", "admin",
)  # fmt: skip
#: Group -> its commands that have modules of their own.
SUBCOMMANDS = {"order": ("explain",)}


class LazyCommands(Mapping[str, Any]):
    """Name -> command or group of commands, imported when it is looked up."""

    def __getitem__(self, name: str) -> Any:  # noqa: ANN401 - a class of typer's own click, which has no public types
        if name not in COMMANDS:
            raise KeyError(name)
        container = TyperApp()
        module = import_module(f"cli.commands.{name}")
        for subcommand in SUBCOMMANDS.get(name, ()):
            import_module(f"cli.commands.{subcommand}").register(module.group)
        module.register(container)
        return get_group(container).commands[name]

    def __iter__(self) -> Iterator[str]:
        return iter(COMMANDS)

    def __len__(self) -> int:
        return len(COMMANDS)


class SagaGroup(Group):
    """The group of all commands."""

    def __init__(self, **attrs: Any) -> None:  # noqa: ANN401 - the attributes that typer passes to a group
        super().__init__(**attrs)
        self.commands = LazyCommands()  # type: ignore[assignment] # typer expects a dict; no command is added later


app = TyperApp(
    name="saga",
    cls=SagaGroup,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="One place-order flow as an orchestrated and as a choreographed saga: run it, break it, watch it, measure it.",
    epilog="Start here: saga demo. Exit codes: 0 ok, 1 failed, 2 usage, 3 audit failed, 4 a server is missing, 130 Ctrl-C.",
)


def _version(is_requested: bool) -> None:
    if is_requested:
        data.print(f"saga {version('saga-orchestration-vs-choreography')}", highlight=False)
        raise typer.Exit


@app.callback()
def root(
    show_version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """Handle the options that come before a command."""


def main() -> None:
    """Run the console script `saga`."""
    app()
