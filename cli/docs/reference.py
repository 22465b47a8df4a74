"""Generates the reference pages for settings and log events, and the output and source that other pages show.

Part of `cli.docs.generate` (`make docs`). Settings are read from the pydantic model, log events from the source by `ast`, and
outputs from running the command.
"""

import ast
import os
import re
import subprocess
import sys
import types
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic.fields import FieldInfo
from typer.core import TyperGroup
from typer.main import get_command

from cli.app import app
from cli.settings import Settings

ROOT = Path(__file__).parents[2]
#: The methods of a structlog logger that write an event, each named after its level.
LEVELS = {"debug": "debug", "info": "info", "warning": "warning", "error": "error", "exception": "error", "critical": "critical"}
#: Packages at the top of the repository that are not part of the product.
NOT_PRODUCT = ("tests", "benchmarks")
#: Opens a part that shows a command with its output, optionally only the output lines that contain a text.
OUTPUT = re.compile(r"<!-- generated: (output of (saga [^,\n]+?)(?:, lines with \"([^\"\n]+)\")?) -->")
#: Opens a part that shows a function or class of a file.
SOURCE = re.compile(r"<!-- generated: (source of (\S+\.py) (\w+)) -->")
BOUNDS = {Gt: "> {0.gt}", Ge: ">= {0.ge}", Lt: "< {0.lt}", Le: "<= {0.le}"}
#: Environment that keeps output independent of the terminal that `make docs` runs in.
TERMINAL = {"COLUMNS": "110", "TERM": "dumb", "NO_COLOR": "1"}


# --- settings -------------------------------------------------------------------------------------------------------------


def settings() -> str:
    """Every field of the settings model as a table: variable, type, default, meaning."""
    rows = ["| variable | type | default | meaning |", "| --- | --- | --- | --- |"]
    for name, field in Settings.model_fields.items():
        default = f"`{field.default}`" if field.default not in ("", None) else "none"
        rows.append(f"| `SAGA_{name.upper()}` | {_type_of(field)} | {default} | {field.description} |")
    return "\n".join(rows)


def _type_of(field: FieldInfo) -> str:
    bounds = [text.format(bound) for kind, text in BOUNDS.items() for bound in field.metadata if isinstance(bound, kind)]
    return ", ".join([" or ".join(_names_of(field.annotation)), *bounds])


def _names_of(annotation: object) -> Iterator[str]:
    """The name of a type, or of each member of a union except `None`, which means that there is no default."""
    if isinstance(annotation, types.UnionType) or get_origin(annotation) is not None:
        for member in get_args(annotation):
            yield from _names_of(member)
    elif isinstance(annotation, type) and annotation is not type(None):
        yield annotation.__name__.lower()


def options() -> str:
    """Every environment variable that stands for an option of commands: variable, option, commands, meaning."""
    found: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for path, option in _options(get_command(app), ""):
        for variable in filter(None, [option.envvar] if isinstance(option.envvar, str) else option.envvar or []):
            found[variable, option.opts[0], option.help or ""].append(f"`{path.strip()}`")
    rows = ["| variable | option | commands | meaning |", "| --- | --- | --- | --- |"]
    rows += [
        f"| `{variable}` | `{option}` | {', '.join(commands)} | {text} |" for (variable, option, text), commands in found.items()
    ]
    return "\n".join(rows)


def _options(command: Any, path: str) -> Iterator[tuple[str, Any]]:  # noqa: ANN401 - typer's own click, which has no public types
    """Every option with an environment variable, with the path of its command."""
    if isinstance(command, TyperGroup):
        for name, inner in command.commands.items():
            yield from _options(inner, f"{path} {name}")
    else:
        for option in command.params:
            if getattr(option, "envvar", None):
                yield path, option


# --- log events -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LogCall:
    """One place in the product that writes a log event. `fields` in the order of the call."""

    event: str
    level: str
    path: str
    fields: tuple[str, ...]


def events() -> str:
    """Every log event of the product as a table: event, level, file, fields."""
    rows = ["| event | level | written in | fields |", "| --- | --- | --- | --- |"]
    for call in sorted(log_calls(), key=lambda call: (call.event, call.path, call.level)):
        fields = ", ".join(f"`{name}`" for name in call.fields) or "-"
        rows.append(f"| `{call.event}` | {call.level} | [{call.path}](../../{call.path}) | {fields} |")
    return "\n".join(dict.fromkeys(rows))


def log_calls() -> Iterator[LogCall]:
    """Every call of a structlog logger in the product. Raises ValueError for an event whose name is not a constant."""
    for package in sorted(path.parent for path in ROOT.glob("*/__init__.py") if path.parent.name not in NOT_PRODUCT):
        for path in sorted(package.rglob("*.py")):
            source = path.read_text()
            if "structlog" in source:
                yield from _log_calls(ast.parse(source), str(path.relative_to(ROOT)))


def _log_calls(module: ast.Module, path: str) -> Iterator[LogCall]:
    for function in (node for node in ast.walk(module) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)):
        chosen = _chosen_levels(function)
        for call in (node for node in ast.walk(function) if isinstance(node, ast.Call)):
            level = chosen.get(ast.unparse(call.func)) or _level_of(call)
            if level is None:
                continue
            name = call.args[1 if level == "any" else 0]
            yield LogCall(_constant(name, f"{path}:{call.lineno}"), level, path, tuple(_fields_of(call, function)))


def _chosen_levels(function: ast.AST) -> dict[str, str]:
    """Name -> levels, for a local name that is bound to a logger's method, as in `write = log.error if ... else log.info`."""
    found = {}
    for node in ast.walk(function):
        if isinstance(node, ast.Assign):
            methods = [
                part for part in ast.walk(node.value) if isinstance(part, ast.Attribute) and ast.unparse(part.value) == "log"
            ]
            called = [part.func for part in ast.walk(node.value) if isinstance(part, ast.Call)]
            if levels := [LEVELS[method.attr] for method in methods if method not in called]:
                found[ast.unparse(node.targets[0])] = " or ".join(levels)
    return found


def _constant(name: ast.expr, where: str) -> str:
    if isinstance(name, ast.Constant):
        return str(name.value)
    raise ValueError(f"{where}: a log event needs a constant name, or docs/reference/events.md cannot list it")


def _level_of(call: ast.Call) -> str | None:
    """The level of a log call: that of `log.info(...)`, `any` for `get_logger().log(level, ...)`, None for every other call."""
    if not isinstance(call.func, ast.Attribute):
        return None
    target = ast.unparse(call.func.value)
    if target == "log" and call.func.attr in LEVELS:
        return LEVELS[call.func.attr]
    return "any" if target == "structlog.get_logger()" and call.func.attr == "log" else None


def _fields_of(call: ast.Call, function: ast.AST) -> Iterator[str]:
    """The names of the fields, including those of `**about` when the same function builds `about` from a dictionary literal."""
    for keyword in call.keywords:
        if keyword.arg:
            yield keyword.arg
        else:
            yield from _keys_of(ast.unparse(keyword.value), function)


def _keys_of(name: str, function: ast.AST) -> Iterator[str]:
    for node in ast.walk(function):
        if isinstance(node, ast.Assign) and any(ast.unparse(target) == name for target in node.targets):
            literals = (part for part in ast.walk(node.value) if isinstance(part, ast.Dict))
            yield from (str(key.value) for part in literals for key in part.keys if isinstance(key, ast.Constant))


# --- output ---------------------------------------------------------------------------------------------------------------


def outputs(path: str) -> dict[str, Callable[[], str]]:
    """Marker -> writer, for each part of a page that shows a command with its output."""
    found = OUTPUT.finditer((ROOT / path).read_text())
    return {marker: partial(output, command, only) for marker, command, only in (match.groups() for match in found)}


def output(command: str, only: str | None) -> str:
    """A command and its output as a console block. Suitable for commands whose output is the same every time."""
    run = [sys.executable, "-m", "cli", *command.split()[1:]]
    env = os.environ | TERMINAL
    done = subprocess.run(run, cwd=ROOT, env=env, capture_output=True, text=True, timeout=120, check=True)  # noqa: S603 - this program
    lines = [line.rstrip() for line in done.stdout.strip("\n").splitlines() if not only or only in line]
    shown = f'{command} | grep "{only}"' if only else command
    return "\n".join(["```console", f"$ {shown}", *lines, "```"])


# --- source ---------------------------------------------------------------------------------------------------------------


def excerpts(path: str) -> dict[str, Callable[[], str]]:
    """Marker -> writer, for each part of a page that shows a function or class of the product."""
    found = SOURCE.finditer((ROOT / path).read_text())
    return {marker: partial(excerpt, file, name) for marker, file, name in (match.groups() for match in found)}


def excerpt(file: str, name: str) -> str:
    """A function or class of a file as a Python block. Raises LookupError when the file has none of that name."""
    source = (ROOT / file).read_text()
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and node.name == name:
            return f"```python\n{ast.get_source_segment(source, node)}\n```"
    raise LookupError(f"{file} has no function or class {name!r} to show; correct the marker on the page")


def parts_of(path: str) -> dict[str, Callable[[], str]]:
    """Every part of a page that is the output of a command or an excerpt of the source."""
    return outputs(path) | excerpts(path)


#: File -> marker -> function that writes the part, as in `cli.docs.generate`.
PARTS: dict[str, dict[str, Callable[[], str]]] = {
    "docs/reference/settings.md": {"settings": settings, "options": options},
    "docs/reference/events.md": {"events": events},
    **{path: parts_of(path) for path in ("docs/tutorial.md", "docs/how-to/swap-a-store.md")},
}
