"""The commands and Python blocks of a page, as a reader would type them.

In `sh` blocks every line is a command, in `console` blocks each line after `$ `, in `text` blocks each line that begins with a
known program. Two comments before a block, not shown on a rendered page, say how it is tested: `<!-- long-running -->` (its
commands are parsed and not run) and `<!-- needs servers -->` (a Python block that is run only where there are servers).
"""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cli.docs.generate import ROOT

BLOCK = re.compile(r"^(?:<!-- (?P<mark>[a-z -]+) -->\n)?```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`(saga [^`|…]+)`")
EXAMPLE = re.compile(r"Example: (saga [^,\n]+)(?:, .*?: (saga .+))?")
EXIT_CODE = re.compile(r"# exit code (\d+)")
#: What a line of a `text` block begins with when it is a command, after variables that are set for it.
PROGRAMS = ("saga", ".venv/bin/saga", "make", "docker", "curl", "export")
#: Other programs of `sh` blocks. They are not run; the shell parses the line.
READ_ONLY = (".", ".venv/bin/python", "cd", "git", "kill")
#: Commands of `saga` that need no server and end by themselves.
IN_MEMORY = ("demo", "simulate", "matrix", "diagram", "--version")
#: An id that no order and no dead letter has.
AN_ID = "0190a0a0-0000-7000-8000-000000000000"
#: Placeholder on a page -> value for parsing.
PLACEHOLDERS = {"ID": AN_ID, "LETTER": AN_ID, "MODE": "choreography", "FOLDER": "secrets"}


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block. `line`: the number of its first line of text."""

    page: str
    line: int
    language: str
    mark: str | None
    text: str


@dataclass(frozen=True, slots=True)
class Command:
    """One command. `words` is without the variables set for it (`env`), comments, and everything after a pipe."""

    page: str
    line: int
    text: str
    words: tuple[str, ...]
    env: dict[str, str] = field(default_factory=dict)
    #: Whether the page shows its output, in a generated part that is checked by running the command.
    has_output: bool = False
    long_running: bool = False
    exit_code: int = 0

    @property
    def where(self) -> str:
        return f"{self.page}:{self.line}: {self.text}"

    @property
    def saga(self) -> tuple[str, ...]:
        """The arguments of `saga`, as a program or as a service of compose; empty for another program."""
        program = self.words[0]
        if program == "docker" and "run" in self.words and "saga" in self.words:
            return self.words[self.words.index("saga") + 1 :]
        return self.words[1:] if program in ("saga", ".venv/bin/saga") else ()

    @property
    def is_endless(self) -> bool:
        """Whether it runs until Ctrl-C."""
        name = self.saga[:1]
        return (
            name in (("up",), ("worker",), ("api",))
            or "--serve" in self.saga
            or (name == ("watch",) and "--for" not in self.saga)
        )

    @property
    def in_memory(self) -> bool:
        """Whether it needs no server and ends by itself."""
        return (bool(self.saga) and self.saga[0] in IN_MEMORY and not self.is_endless) or self.words == ("make", "demo")

    @property
    def needs_servers(self) -> bool:
        """Whether it uses running servers, and ends by itself."""
        return bool(self.saga) and self.words[0] != "docker" and not self.in_memory and not self.is_endless


def pages() -> list[str]:
    """README and every page of docs/, as paths from the root."""
    return ["README.md", *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md"))]


def blocks_of(page: str) -> Iterator[Block]:
    """The fenced blocks of a page, in their order."""
    text = (ROOT / page).read_text()
    for match in BLOCK.finditer(text):
        line = text.count("\n", 0, match.start("text")) + 1
        yield Block(page, line, match["language"], match["mark"], match["text"])


def commands_of(page: str) -> Iterator[Command]:
    """Every command of a page's blocks, in their order."""
    for block in blocks_of(page):
        for number, line in enumerate(block.text.splitlines()):
            if text := _command_in(line, block.language):
                yield _command(page, block.line + number, text, block)


def mentions_of(page: str) -> Iterator[Command]:
    """Commands of `saga` that a page mentions in its sentences or in the examples of a help text."""
    text = (ROOT / page).read_text()
    prose = BLOCK.sub(lambda block: "\n" * block[0].count("\n"), text)
    found = [(match.start(1), match[1]) for match in INLINE.finditer(prose) if "..." not in match[1]]
    found += [(match.start(n), match[n]) for match in EXAMPLE.finditer(text) for n in (1, 2) if match[n]]
    for start, command in sorted(found):
        yield Command(page, text.count("\n", 0, start) + 1, command, tuple(shlex.split(command)))


def _command_in(line: str, language: str) -> str | None:
    """The command in a line of a block of that language, or None."""
    if language == "console":
        return line.removeprefix("$ ") if line.startswith("$ ") else None
    if language in ("sh", "bash"):
        return line if line.strip() and not line.startswith("#") else None
    begins = re.match(r"(?:[A-Z_]+=\S+ )*(\S+)", line)
    return line if language == "text" and begins and begins[1] in PROGRAMS else None


def _command(page: str, line: int, text: str, block: Block) -> Command:
    words = shlex.split(text, comments=True)
    env: dict[str, str] = {}
    while re.match(r"[A-Z_]+=", words[0]):
        name, _, value = words.pop(0).partition("=")
        env[name] = value
    words = words[: words.index("|")] if "|" in words else words
    exit_code = EXIT_CODE.search(text)
    return Command(
        page,
        line,
        text,
        tuple(words),
        env,
        has_output=block.language == "console",
        long_running=block.mark == "long-running",
        exit_code=int(exit_code[1]) if exit_code else 0,
    )


def filled(words: tuple[str, ...], **own: str) -> list[str]:
    """The words with each placeholder replaced. `own`: values to use in place of those for parsing."""
    return [(PLACEHOLDERS | own).get(word, word) for word in words]


def program_of(page: str, mark: str | None = None) -> str:
    """The Python blocks of a page with that mark, as one program whose line numbers are the page's."""
    lines: list[str] = []
    for block in blocks_of(page):
        if block.language == "python" and block.mark == mark:
            lines += [""] * (block.line - 1 - len(lines)) + block.text.splitlines()
    return "\n".join(lines)


def run_program(page: str, mark: str | None = None, names: dict[str, Any] | None = None) -> dict[str, Any]:
    """Run a page's Python, after `names` of an earlier run; gives its names. A traceback shows the page and its line."""
    names = {"__name__": Path(page).stem} if names is None else names
    exec(compile(program_of(page, mark), str(ROOT / page), "exec"), names)  # noqa: S102 - pages of this repository
    return names
