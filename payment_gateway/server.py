"""The payment gateway as a process: `serve` runs it until SIGTERM or SIGINT, and ends within 2 s even while callers hang.

Called by `python -m payment_gateway` and by the CLI's `saga worker gateway`.
"""

import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

import uvicorn

from payment_gateway.app import Gateway
from payment_gateway.books import Books
from payment_gateway.sqlite import SqliteStorage
from payment_gateway.storage import MemoryStorage

#: Seconds that calls in progress have to end once a signal came; those kept waiting on purpose are dropped at once.
GRACE_S = 1

#: Seconds an idle connection is kept: longer than any client keeps it, so that the client is the one to close it. (If the server
#: were, a call sent at that moment would find its connection closed, and be in doubt.)
KEEP_ALIVE_S = 75


def serve(
    host: str,
    port: int,
    books_file: Path | None,
    *,
    faults: bool,
    settle_after_s: float = 2.0,
    slow_s: float = 1.0,
    announce: Callable[[str], None] | None = None,
) -> None:
    """Serve until told to stop; blocks. `books_file` None: the books live as long as the process.

    `port` 0 takes a free one; `announce` is given the URL as soon as connections are taken. Raises OSError when the address
    is taken, sqlite3.Error when the file cannot be used."""
    listener = socket.create_server((host, port), backlog=2048)
    storage = MemoryStorage() if books_file is None else SqliteStorage(books_file)
    # Wall-clock time: what a pending payment waits for must survive a restart.
    books = Books(storage, now=time.time, faults=faults, settle_after_s=settle_after_s, slow_s=slow_s)
    server = _Server(Gateway(books))
    _ignore_reraised_signals()
    if announce is not None:
        announce(f"http://{host}:{listener.getsockname()[1]}")
    server.run(sockets=[listener])


class _Server(uvicorn.Server):
    """Drops the callers that are kept waiting before it waits for the others."""

    def __init__(self, gateway: Gateway) -> None:
        super().__init__(
            uvicorn.Config(
                gateway,
                access_log=False,
                log_config=None,  # lines go the way that the process has chosen for all of them
                log_level="warning",
                ws="none",
                server_header=False,
                timeout_keep_alive=KEEP_ALIVE_S,
                timeout_graceful_shutdown=GRACE_S,
            )
        )
        self._gateway = gateway

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._gateway.calls.abort_hung_calls()
        await super().shutdown(sockets)


def _ignore_reraised_signals() -> None:
    """Ignore the signal that uvicorn raises again after its shutdown (until then it handles both): exit code 0, no traceback."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
