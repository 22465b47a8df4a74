"""A TCP proxy that strikes at a chosen word: it cuts or stalls the conversation where the client says it.

It looks for plain bytes in what the client sends (`commitTransaction`, say), so it fits any protocol that shows its
commands. It runs on the test's own loop.
(tests/support/network/tcp_proxy.py strikes when the test says so, whatever is being said.)
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from enum import Enum


class Fault(Enum):
    """What happens when the client says the word."""

    CUT = "cut"  # the server never hears it, the client is disconnected
    LOSE = "lose"  # the server hears it and answers, the client is disconnected instead of hearing that
    STALL = "stall"  # nothing is carried any more, and nobody is told


class Interceptor:
    """Carries bytes to `target_port` until the client says `word`; then `fault` happens, `times` times."""

    def __init__(self, target_port: int, target_host: str = "127.0.0.1") -> None:
        self._target = (target_host, target_port)
        self.port = 0
        self.word, self.fault, self.times = b"", Fault.CUT, 0
        #: Set when the first fault happened.
        self.struck = asyncio.Event()
        self._conversations: set[asyncio.Task[None]] = set()

    def inject(self, fault: Fault, word: bytes, times: int = 1) -> None:
        self.fault, self.word, self.times = fault, word, times

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection both ways until either side ends it, or the test does."""
        task = asyncio.current_task()
        assert task is not None
        self._conversations.add(task)
        # Cancelled at the end of the test: no news to the loop, which would log it.
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
    """An interceptor before that server, on a free port, for the length of the block."""
    line = Interceptor(port, host)
    server = await asyncio.start_server(line.serve, "127.0.0.1", 0)
    line.port = server.sockets[0].getsockname()[1]
    try:
        yield line
    finally:
        server.close()
        await line.end()
