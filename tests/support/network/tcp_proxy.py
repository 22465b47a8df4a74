"""A TCP proxy that injects network faults: it cuts connections, refuses new ones, freezes, or delays bytes.

It stands between a client and a real server, which is not affected.
"""

import asyncio
from collections.abc import Sequence
from types import TracebackType
from typing import Self


class Proxy:
    """Forwards `port` on 127.0.0.1 to `target_host:target_port`. Use as an async context manager."""

    def __init__(self, target_host: str, target_port: int, *, delay_s: float = 0.0) -> None:
        self.delay_s = delay_s
        self._target = (target_host, target_port)
        self._cut = False
        #: For each connection so far, set while it is forwarded.
        self._flowing: list[asyncio.Event] = []
        #: For each connection so far, set while bytes of its client are read; and the writer to its client.
        self._reading: list[asyncio.Event] = []
        self._clients: list[asyncio.StreamWriter] = []
        self._frozen = False
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._server.close()
        self.cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def accepted(self) -> int:
        """The number of connections accepted so far."""
        return len(self._flowing)

    @property
    def port(self) -> int:
        return int(self._server.sockets[0].getsockname()[1])

    def cut(self) -> None:
        """Reset every connection, and every new one until `restore`."""
        self._cut = True
        self.reset()

    def reset(self) -> None:
        """Reset every connection; new ones are accepted."""
        for writer in self._writers:
            writer.transport.abort()

    def restore(self) -> None:
        self._cut = False

    def freeze(self, only: int | None = None) -> None:
        """Stop forwarding but keep the connections open, as a stopped process or a lost route does.

        `only`: the number of one connection, in order of arrival; the others and new ones are still forwarded."""
        if only is not None:
            self._flowing[only].clear()
            return
        self._frozen = True
        for flowing in self._flowing:
            flowing.clear()

    def thaw(self) -> None:
        self._frozen = False
        for flowing in self._flowing:
            flowing.set()

    def hold(self, only: int) -> None:
        """Stop forwarding what the client of one connection sends, as a server that no longer reads from it."""
        self._reading[only].clear()

    def release(self, only: int) -> None:
        self._reading[only].set()

    def say(self, only: int, data: bytes) -> None:
        """Send bytes to the client of one connection as if from the server, which must not be sending at that time."""
        self._clients[only].write(data)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._cut:
            writer.transport.abort()
            return
        try:
            there_reader, there_writer = await asyncio.open_connection(*self._target)
        except OSError:
            writer.transport.abort()
            return
        flowing = asyncio.Event()
        if not self._frozen:
            flowing.set()
        reading = asyncio.Event()
        reading.set()
        self._flowing.append(flowing)
        self._reading.append(reading)
        self._clients.append(writer)
        self._writers |= {writer, there_writer}
        for source, sink, gates in ((reader, there_writer, (flowing, reading)), (there_reader, writer, (flowing,))):
            task = asyncio.create_task(self._forward(source, sink, gates))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _forward(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, gates: Sequence[asyncio.Event]) -> None:
        try:
            while data := await source.read(65536):
                for gate in gates:
                    await gate.wait()
                if self.delay_s:
                    await asyncio.sleep(self.delay_s)
                sink.write(data)
                await sink.drain()
        except OSError:
            pass
        finally:
            sink.close()
            self._writers.discard(sink)
