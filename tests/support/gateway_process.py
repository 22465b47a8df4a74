"""Starts, kills and stops real payment gateways for tests, and lends one to a whole session.

Faults are enabled and times are short, so that a test of a pending or slow payment takes a fraction of a second.
"""

import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

#: Seconds a payment stays pending, and seconds that a slow answer is late, at these gateways.
SETTLE_AFTER_S = 0.4
SLOW_S = 0.2

#: Seconds a gateway may take to say its URL, and to end when told to.
START_PATIENCE_S = 30.0
STOP_PATIENCE_S = 10.0


class GatewayProcess:
    """One gateway in its own process, on a free port that it keeps when it is started again. Not started yet."""

    def __init__(self, books: Path, *, faults: bool = True) -> None:
        self._books = books
        self._faults = ["--faults"] if faults else []
        self._port = 0
        self._process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def process(self) -> subprocess.Popen[str]:
        assert self._process is not None, "the gateway has not been started"
        return self._process

    def start(self) -> None:
        """Returns once it takes connections."""
        options = ["--port", str(self._port), "--books", str(self._books), "--settle-after", str(SETTLE_AFTER_S)]
        command = [sys.executable, "-m", "payment_gateway", *options, "--slow", str(SLOW_S), *self._faults]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], START_PATIENCE_S)
        url = self._process.stdout.readline().strip() if ready else ""
        assert url, f"no URL from the gateway within {START_PATIENCE_S} s (exit code {self._process.poll()})"
        self._port = int(url.rsplit(":", 1)[1])

    def kill(self) -> None:
        """`kill -9`."""
        self.process.kill()
        self.wait()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Tell it to end; gives the exit code."""
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        """Wait for its end; gives the exit code."""
        code = self.process.wait(STOP_PATIENCE_S)
        if self.process.stdout is not None:
            self.process.stdout.close()
        return code


@contextmanager
def running_gateway(books: Path, *, faults: bool = True) -> Iterator[GatewayProcess]:
    """A started gateway, which may be killed and started again meanwhile; stopped at the end by its handle."""
    gateway = GatewayProcess(books, faults=faults)
    gateway.start()
    try:
        yield gateway
    finally:
        gateway.kill()
