"""Payment gateways in processes of their own, for tests to start, kill and stop.

Faults are enabled by default and times are short, so that a test of a pending or slow payment takes a fraction of a second.
"""

import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

#: Seconds that a payment stays pending, and the delay of a slow answer, at these gateways.
SETTLE_AFTER_S = 0.4
SLOW_S = 0.2

#: Seconds that a gateway may take to print its URL, and to end after a signal.
START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 10.0


class GatewayProcess:
    """One gateway in its own process, not started yet. It keeps its port when it is started again."""

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
        """Start the process. Returns once it accepts connections."""
        options = ["--port", str(self._port), "--books", str(self._books), "--settle-after", str(SETTLE_AFTER_S)]
        command = [sys.executable, "-m", "payment_gateway", *options, "--slow", str(SLOW_S), *self._faults]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], START_TIMEOUT_S)
        url = self._process.stdout.readline().strip() if ready else ""
        assert url, f"no URL from the gateway within {START_TIMEOUT_S} s (exit code {self._process.poll()})"
        self._port = int(url.rsplit(":", 1)[1])

    def kill(self) -> None:
        """Kill the process with SIGKILL."""
        self.process.kill()
        self.wait()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send the signal and wait for the end. Returns the exit code."""
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        """Wait for the end of the process. Returns the exit code."""
        code = self.process.wait(STOP_TIMEOUT_S)
        if self.process.stdout is not None:
            self.process.stdout.close()
        return code


@contextmanager
def running_gateway(books: Path, *, faults: bool = True) -> Iterator[GatewayProcess]:
    """A running gateway. The test may kill and restart it; it is killed at the end."""
    gateway = GatewayProcess(books, faults=faults)
    gateway.start()
    try:
        yield gateway
    finally:
        gateway.kill()
