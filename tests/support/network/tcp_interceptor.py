"""A TCP proxy that injects a fault when the client sends a chosen word.

It searches the client's bytes for the word (such as `commitTransaction`), so it works with any protocol whose commands are plain
text. It runs on the test's own event loop. (tests/support/network/tcp_proxy.py injects faults when the test calls it.)
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from enum import Enum


class Fault(Enum):
    """What happens when the client sends the word."""

    CUT = "cut"  # the client is disconnected, and the server never receives the word
    LOSE = "lose"  # the server receives the word and responds, and the client is disconnected before the response
    STALL = "stall"  # nothing is forwarded any more, and both connections stay open


class Interceptor:
    """Forwards bytes to `target_port`; injects `fault` the next `times` times that the client sends `word`."""

    def __init__(self, target_port: int, target_host: str = "127.0.0.1") -> None:
        self._target = (target_host, target_port)
        self.port = 0
        self.word, self.fault, self.times = b"", Fault.CUT, 0
        #: Set at the first fault.
        self.struck = asyncio.Event()
        self._conversations: set[asyncio.Task[None]] = set()

    def inject(self, fault: Fault, word: bytes, times: int = 1) -> None:
        self.fault, self.word, self.times = fault, word, times

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Forward one connection both ways until either side or the test ends it."""
        task = asyncio.current_task()
        assert task is not None
        self._conversations.add(task)
        # Cancelled at the end of the test: otherwise the event loop would log the error.
        with suppress(ConnectionError, asyncio.CancelledError):
            async with _closed_after(writer):
                from_server, to_server = await asyncio.open_connection(*self._target)
                async with _closed_after(to_server):
                    await self._carry(reader, to_server, from_server, writer)
        self._conversations.discard(task)

    async def _carry(
        self,
        from_client: asyncio.StreamReader,
        to_server: asyncio.StreamWriter,
        from_server: asyncio.StreamReader,
        to_client: asyncio.StreamWriter,
    ) -> None:
        lose = asyncio.Event()
        ways = self._requests(from_client, to_server, lose), self._answers(from_server, to_client, lose)
        carriers = [asyncio.create_task(way) for way in ways]
        try:
            await asyncio.wait(carriers, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for carrier in carriers:
                carrier.cancel()
            await asyncio.gather(*carriers, return_exceptions=True)

    async def _requests(self, client: asyncio.StreamReader, server: asyncio.StreamWriter, lose: asyncio.Event) -> None:
        while data := await client.read(65536):
            if self.times > 0 and self.word in data:
                self.times -= 1
                self.struck.set()
                if self.fault is Fault.CUT:
                    return
                if self.fault is Fault.STALL:
                    await asyncio.Event().wait()
                lose.set()
            server.write(data)
            await server.drain()

    async def _answers(self, server: asyncio.StreamReader, client: asyncio.StreamWriter, lose: asyncio.Event) -> None:
        while data := await server.read(65536):
            if lose.is_set():
                return
            client.write(data)
            await client.drain()

    async def end(self) -> None:
        for conversation in self._conversations:
            conversation.cancel()
        await asyncio.gather(*self._conversations, return_exceptions=True)


@asynccontextmanager
async def _closed_after(writer: asyncio.StreamWriter) -> AsyncIterator[None]:
    try:
        yield
    finally:
        writer.transport.abort()
        with suppress(ConnectionError):
            await writer.wait_closed()


@asynccontextmanager
async def intercepting(host: str, port: int) -> AsyncIterator[Interceptor]:
    """Run an interceptor in front of a server, on a free port, and yield it."""
    line = Interceptor(port, host)
    server = await asyncio.start_server(line.serve, "127.0.0.1", 0)
    line.port = server.sockets[0].getsockname()[1]
    try:
        yield line
    finally:
        server.close()
        await line.end()
