"""Logs: one line an event, with who, in which mode, about which order and message, so that grep by order id tells its story.

Room: cli/. JSON when stdout is no terminal, coloured for people when it is. Libraries' own loggers go the same way, from WARNING.
"""

import json
import logging
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


class _Libraries(logging.Handler):
    """Brings the lines of libraries that log the standard way into ours."""

    def emit(self, record: logging.LogRecord) -> None:
        structlog.get_logger().log(record.levelno, "library", logger=record.name, said=record.getMessage())


def configure(level: str, *, mode: str = "", service: str = "", people: bool | None = None) -> None:
    """Set up logging for this process. `people`: coloured text rather than JSON; by default, if stdout is a terminal."""

    def name(_: object, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        event.setdefault("mode", mode)
        event.setdefault("service", service)
        return event

    for_people = sys.stdout.isatty() if people is None else people
    rendered: Any = structlog.dev.ConsoleRenderer() if for_people else structlog.processors.JSONRenderer(serializer=json.dumps)
    structlog.configure(
        processors=[
            name,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            rendered,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS.get(level.lower(), logging.INFO)),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stdout),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(level=logging.WARNING, handlers=[_Libraries()], force=True)
