"""The API's process: it does not outlive its worker. Its shutdown by a signal is tested in tests/cli/test_api.py."""

import asyncio
import signal
import socket
from collections.abc import Iterator

import pytest

from api.server import serve
from bootstrap.memory_backend import MemoryBackend
from bootstrap.modes import Mode
from tests.support.api.http_api import build_orders


@pytest.fixture
def signals_restored() -> Iterator[None]:
    """Restore this process's signal handlers after the test."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_server_ends_with_the_error_of_its_worker(signals_restored: None) -> None:
    async def whole() -> None:
        backend = MemoryBackend(Mode.CHOREOGRAPHY)
        orders = build_orders(Mode.CHOREOGRAPHY, backend)
        await orders.prepare()

        async def die() -> None:
            await asyncio.sleep(0.1)
            raise RuntimeError("the relay died")

        orders.worker.run = die  # type: ignore[method-assign]
        with socket.create_server(("127.0.0.1", 0)) as listener:
            async with asyncio.timeout(10):
                await serve(orders, listener, pivot_first=True, on_shutdown=lambda: None)

    with pytest.raises(RuntimeError, match="the relay died"):
        asyncio.run(whole())
