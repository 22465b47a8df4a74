"""The payment gateway as a process: runs until SIGTERM or SIGINT, then ends within 2 s, also while calls hang.

Used by `python -m payment_gateway` and by `saga worker gateway`.
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

#: Seconds that calls in progress have to end after a signal; calls that hang on purpose are dropped at once.
GRACE_S = 1

#: Seconds an idle connection is kept. Longer than the payment service's client keeps it (services/payment/gateway_http.py), so
#: that the client closes it: if the server did, a call sent at that moment would be in doubt.
KEEP_ALIVE_S = 75


def serve(
    host: str,
    port: int,
    books_file: Path | None,
    *,
    faults: bool,
    settle_after_s: float,
    slow_s: float = 1.0,
    announce: Callable[[str], None] | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT; blocks. `books_file` None: the books are lost when the process ends.

    `port` 0: a free one. `announce` is called with the URL once connections are accepted. For the others see `Books`. Raises
    OSError if the address is in use, sqlite3.Error if the file cannot be used."""
    listener = socket.create_server((host, port), backlog=2048)
    storage = MemoryStorage() if books_file is None else SqliteStorage(books_file)
    # Wall-clock time, because the time at which a pending payment settles is stored and must hold after a restart.
    books = Books(storage, now=time.time, faults=faults, settle_after_s=settle_after_s, slow_s=slow_s)
    server = _Server(Gateway(books))
    _ignore_reraised_signals()
    if announce is not None:
        announce(f"http://{host}:{listener.getsockname()[1]}")
    server.run(sockets=[listener])


class _Server(uvicorn.Server):
    """A uvicorn server that, at shutdown, drops hung calls before it waits for the others."""

    def __init__(self, gateway: Gateway) -> None:
        super().__init__(
            uvicorn.Config(
                gateway,
                access_log=False,
                log_config=None,  # the logging of the process stays as it is
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
    """Ignore the signal that uvicorn raises again after its shutdown, so that the exit code is 0 and there is no traceback.

    Until then uvicorn handles both signals itself."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
