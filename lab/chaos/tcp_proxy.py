"""A TCP proxy that disturbs connections on request: it resets them, drops their data, or delays it.

It stands between the workers and one server, in the place of the network. It counts the effects of each disturbance, because a
fault that hit no connection proves nothing.
"""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

#: Bytes read at once.
CHUNK_BYTES = 65536


@dataclass(eq=False, slots=True)
class _Connection:
    """Both ends of one connection. `lost_bytes`: data was dropped, so the byte stream has a gap and cannot be used any more."""

    client_writer: asyncio.StreamWriter
    server_writer: asyncio.StreamWriter
    lost_bytes: bool = False

    def cut(self) -> None:
        self.client_writer.transport.abort()
        self.server_writer.transport.abort()


@dataclass(slots=True)
class TcpProxy:
    """Forwards `port` on 127.0.0.1 to `target_port` there. Use as an async context manager."""

    target_port: int
    #: Seconds by which data is delayed now.
    delay_s: float = 0.0
    #: Whether data is dropped now. New connections are accepted and lead nowhere.
    dropping: bool = False
    #: Connections reset, bytes dropped and chunks delayed so far.
    connections_cut: int = 0
    dropped_bytes: int = 0
    delayed_chunks: int = 0
    _connections: set[_Connection] = field(default_factory=set)
    #: Connections accepted while data is dropped.
    _dropped_writers: set[asyncio.StreamWriter] = field(default_factory=set)
    _tasks: "set[asyncio.Task[None]]" = field(default_factory=set)
    _server: asyncio.Server = field(init=False)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._server.close()
        self.heal()
        self.cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def port(self) -> int:
        return int(self._server.sockets[0].getsockname()[1])

    def cut(self) -> int:
        """Reset every connection; new ones are accepted. Returns how many were reset."""
        return self._cut(list(self._connections))

    def drop_data(self) -> None:
        """Drop all data from now on, in both directions, without closing a connection."""
        self.dropping = True

    def delay_data(self, delay_s: float) -> None:
        """Delay all data by `delay_s` from now on, in both directions."""
        self.delay_s = delay_s

    def heal(self) -> None:
        """Forward all data again. Connections that lost bytes are reset, because their byte stream has a gap."""
        self.dropping, self.delay_s = False, 0.0
        self._cut([connection for connection in self._connections if connection.lost_bytes])
        for writer in self._dropped_writers:
            writer.transport.abort()
        self._dropped_writers.clear()

    def _cut(self, connections: list[_Connection]) -> int:
        for connection in connections:
            connection.cut()
            self._connections.discard(connection)
        self.connections_cut += len(connections)
        return len(connections)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.dropping:
            self._dropped_writers.add(writer)
            self._run(self._discard(reader))
            return
        try:
            server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self.target_port)
        except OSError:
            writer.transport.abort()
            return
        connection = _Connection(writer, server_writer)
        self._connections.add(connection)
        self._run(self._forward(connection, reader, server_writer))
        self._run(self._forward(connection, server_reader, writer))

    async def _discard(self, reader: asyncio.StreamReader) -> None:
        try:
            while data := await reader.read(CHUNK_BYTES):
                self.dropped_bytes += len(data)
        except OSError:
            pass

    async def _forward(self, connection: _Connection, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(CHUNK_BYTES):
                if self.delay_s:
                    self.delayed_chunks += 1
                    await asyncio.sleep(self.delay_s)
                if self.dropping:
                    self.dropped_bytes += len(data)
                    connection.lost_bytes = True
                    continue
                sink.write(data)
                await sink.drain()
        except OSError:
            pass
        finally:
            if not self.dropping:  # a black hole also drops the end of a connection
                sink.close()
                self._connections.discard(connection)
            else:
                connection.lost_bytes = True

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
