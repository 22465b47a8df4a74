"""`saga worker gateway`: serves the payment gateway, which stands for an external system.

Imported only where it is served, because an HTTP server takes as long to load as a worker.
"""

import sqlite3
from pathlib import Path
from typing import NoReturn

import structlog
from yarl import URL

from cli.output import Code, stop
from cli.process import stop_with_parent
from cli.settings import Settings
from payment_gateway.server import serve

log = structlog.get_logger()


def serve_gateway(settings: Settings, host: str, *, faults: bool, tied_to_parent: bool) -> None:
    """Serve the payment gateway until SIGTERM or Ctrl-C. Stops with exit code 1 when port or books cannot be opened."""
    if tied_to_parent:
        stop_with_parent()
    books = settings.gateway_books
    port = URL(settings.gateway_url).port or 80
    try:
        books.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        _no_books(books, error.strerror)
    try:
        serve(
            host,
            port,
            books,
            faults=faults,
            settle_after_s=settings.settle_after_s,
            announce=lambda url: log.info("started", url=url, faults=faults),
        )
    except OSError as error:
        stop(
            Code.FAILED,
            f"the payment gateway cannot serve on {host}:{port}: {error.strerror}. Set SAGA_GATEWAY_URL to another address.",
        )
    except sqlite3.Error as error:
        _no_books(books, str(error))


def _no_books(books: Path, why: str | None) -> NoReturn:
    stop(Code.FAILED, f"the payment gateway cannot keep its books in {books}: {why}. Set SAGA_GATEWAY_BOOKS to another file.")
