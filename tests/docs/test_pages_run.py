"""Parses every command of every page, and runs those that need no server and take seconds.

Commands that need no server run here; those that need servers run in test_pages_on_servers.py. Blocks marked as long-running, and
commands that run until Ctrl-C, are parsed only. Docker's commands are run by tests/stack.
"""

import os
import re
import subprocess
import sys
from typing import Any

import pytest
from typer.core import TyperGroup
from typer.main import get_command

from cli.app import app
from cli.docs.generate import ROOT
from tests.support.page_commands import (
    PROGRAMS,
    READ_ONLY,
    Command,
    commands_of,
    filled,
    mentions_of,
    pages,
    run_program,
)

PAGES = pages()
#: Seconds that a command without servers may take. One that takes longer belongs in a block marked as long-running.
LIMIT_S = 30
#: Ports of this machine without a server: commands in memory do not need one.
NOWHERE = {
    "SAGA_BROKER_URL": "amqp://127.0.0.1:9/",
    "SAGA_STORE_URL": "mongodb://127.0.0.1:9/",
    "SAGA_GATEWAY_URL": "http://127.0.0.1:9",
}
PROGRAM_PAGES = ("docs/how-to/use-the-loop.md", "docs/how-to/add-a-step.md")
EVERY_COMMAND = [command for page in PAGES for command in commands_of(page)]
RUN_IN_MEMORY = {
    " ".join(command.words): command
    for command in EVERY_COMMAND
    if command.in_memory and not command.has_output and not command.long_running
}


def parse(words: list[str]) -> None:
    """Parse the words as `saga` and its commands do, without running anything. Raises what the parsers raise."""
    command: Any = get_command(app)  # of typer's own click, which has no public types
    path, context = "saga", None
    while words and not {"--help", "--version"} & set(words):
        context = command.make_context(path, list(words), parent=context)
        if not isinstance(command, TyperGroup):
            return
        name, command, words = command.resolve_command(context, [*context._protected_args, *context.args])
        path = str(name)


def refusal(words: list[str]) -> str | None:
    """The parser's error for the words, or None."""
    try:
        parse(words)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a wrong option raises, a wrong value exits
        return repr(error)
    return None


@pytest.mark.parametrize("page", PAGES)
def test_every_command_of_a_page_parses(page: str) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for command in [*commands_of(page), *mentions_of(page)]:
        assert command.words[0] in (*PROGRAMS, *READ_ONLY), f"{command.where}: no test knows this program"
        if command.saga:
            assert (why := refusal(filled(command.saga))) is None, f"{command.where}: {why}"
        elif command.words[0] == "make":
            assert {word for word in command.words[1:] if "=" not in word} <= targets, f"{command.where}: no such target"
        else:
            read = subprocess.run(["bash", "-n", "-c", command.text], capture_output=True, text=True, check=False)
            assert read.returncode == 0, f"{command.where}: {read.stderr}"


def test_parser_refuses_unknown_commands_and_options() -> None:
    assert refusal(["demo", "--explain"]) is None
    assert refusal(["order", "explain", "not-an-id"]) is not None
    assert refusal(["demo", "--explian"]) is not None
    assert refusal(["order", "explode"]) is not None


@pytest.mark.parametrize("command", RUN_IN_MEMORY.values(), ids=RUN_IN_MEMORY)
def test_command_in_memory_runs_without_servers(command: Command) -> None:
    words = ["make", *command.words[1:]] if command.words[0] == "make" else [sys.executable, "-m", "cli", *filled(command.saga)]
    done = subprocess.run(words, cwd=ROOT, env=os.environ | NOWHERE, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert done.returncode == command.exit_code, f"{command.where}: exit code {done.returncode}: {done.stderr[-2000:]}"
    assert done.stdout


@pytest.mark.parametrize("page", PROGRAM_PAGES)
def test_python_of_a_page_runs_and_prints_what_the_page_shows(page: str, capsys: pytest.CaptureFixture[str]) -> None:
    run_program(page)
    assert capsys.readouterr().out in (ROOT / page).read_text()
