"""Logs: one line an event, with who, in which mode, about which order and message, so that grep by order id tells its story.

JSON when stdout is no terminal, short and coloured for people when it is. Libraries' own loggers go the same way,
from WARNING.
"""

import json
import logging
import sys
import zlib
from collections.abc import Mapping, MutableMapping
from typing import Any

import structlog
from rich.text import Text

from cli.output import Code, data, stop

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
LEVEL_STYLES = {"warning": "yellow", "error": "bold red"}
COLOURS = ("cyan", "green", "magenta", "blue", "bright_cyan", "bright_green", "bright_magenta", "bright_blue")
#: Columns for the name of who speaks; the longest is `[coordinator]`.
NAME_WIDTH = 13
#: What people are not told again on every line.
HIDDEN_KEYS = ("event", "level", "timestamp", "mode", "service")


class _StdlibHandler(logging.Handler):
    """Brings the lines of libraries that log the standard way into ours."""

    def emit(self, record: logging.LogRecord) -> None:
        level = max((known for known in LEVELS.values() if known <= record.levelno), default=logging.DEBUG)
        exc_info = record.exc_info if record.exc_info and record.exc_info[0] else None
        extra = {"exc_info": exc_info} if exc_info else {}
        structlog.get_logger().log(level, "library", logger=record.name, said=record.getMessage(), **extra)


class _TerminalLogger:
    """structlog's logger where people read: prints what `as_text` made."""

    def write(self, text: Text) -> None:
        data.print(text, soft_wrap=True)

    debug = info = warning = error = critical = write


def configure(level: str, *, mode: str = "", service: str = "", people: bool | None = None) -> None:
    """Set up logging for this process. `people`: coloured text rather than JSON; by default, if stdout is a terminal.

    Ends the process with a sentence when there is no such level."""
    if level.lower() not in LEVELS:
        stop(Code.USAGE, f"SAGA_LOG_LEVEL: there is no level {level!r}. It is one of {', '.join(LEVELS)}.")

    def name(_: object, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        event.setdefault("mode", mode)
        event.setdefault("service", service)
        return event

    for_people = sys.stdout.isatty() if people is None else people
    rendered: Any = _render_for_terminal if for_people else structlog.processors.JSONRenderer(serializer=json.dumps)
    structlog.configure(
        processors=[
            name,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            rendered,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level.lower()]),
        logger_factory=_factory_of(_TerminalLogger()) if for_people else structlog.WriteLoggerFactory(file=sys.stdout),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(level=logging.WARNING, handlers=[_StdlibHandler()], force=True)


def _factory_of(logger: _TerminalLogger) -> Any:  # noqa: ANN401 - structlog takes any callable
    return lambda *_: logger


def _render_for_terminal(_: object, __: str, event: MutableMapping[str, Any]) -> tuple[tuple[Text], dict[str, Any]]:
    """The last step of structlog: gives the arguments of the logger's method."""
    return (as_text(event),), {}


def as_text(event: Mapping[str, Any]) -> Text:
    """An event for people: who, what, about what. No markup in it: words that came with a message must not become tags."""
    service = str(event.get("service") or "-")
    colour = COLOURS[zlib.crc32(service.encode()) % len(COLOURS)]
    line = Text()
    line.append(f"[{service}]".ljust(NAME_WIDTH), style=colour)
    line.append(f" {_printable(event.get('event'))}", style=LEVEL_STYLES.get(str(event.get("level")), ""))
    for key, value in event.items():
        if key not in HIDDEN_KEYS and value not in (None, "", []):
            line.append(f" {key}=", style="dim")
            line.append(_printable(value))
    return line


def _printable(value: object) -> str:
    """On one line, and nothing in it that a terminal would obey."""
    text = str(value)
    return text if text.isprintable() else repr(text)
