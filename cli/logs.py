"""Log configuration: one line an event, with service, mode, order and message, so that a search for an order id finds all of it.

JSON when stdout is not a terminal, short coloured text when it is. Records of other libraries' loggers take the same way, from
WARNING up.
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
#: Columns for the name of the service; the longest is `[coordinator]`.
NAME_WIDTH = 13
#: Fields that the text form leaves out.
HIDDEN_KEYS = ("event", "level", "timestamp", "mode", "service")


class _StdlibHandler(logging.Handler):
    """Passes records of the standard logging module to structlog."""

    def emit(self, record: logging.LogRecord) -> None:
        level = max((known for known in LEVELS.values() if known <= record.levelno), default=logging.DEBUG)
        exc_info = record.exc_info if record.exc_info and record.exc_info[0] else None
        extra = {"exc_info": exc_info} if exc_info else {}
        structlog.get_logger().log(level, "library_message", logger=record.name, text=record.getMessage(), **extra)


class _TerminalLogger:
    """structlog's logger for a terminal: prints the text that `as_text` made."""

    def write(self, text: Text) -> None:
        data.print(text, soft_wrap=True)

    debug = info = warning = error = critical = write


def configure(level: str, *, mode: str = "", service: str = "", people: bool | None = None) -> None:
    """Set up logging for this process. `people`: coloured text rather than JSON; by default when stdout is a terminal.

    Stops the command with exit code 2 when `level` does not exist."""
    if level.lower() not in LEVELS:
        stop(Code.USAGE, f"SAGA_LOG_LEVEL: there is no level {level!r}. Use one of {', '.join(LEVELS)}.")

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
    """The last processor of structlog: returns the arguments of the logger's method."""
    return (as_text(event),), {}


def as_text(event: Mapping[str, Any]) -> Text:
    """An event as text: service, event, fields. Built without markup, so that text from a message cannot become a tag."""
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
    """The value on one line, without control characters."""
    text = str(value)
    return text if text.isprintable() else repr(text)
