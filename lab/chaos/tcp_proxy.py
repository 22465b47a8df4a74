"""A TCP proxy that misbehaves on request: cuts connections, swallows what passes, or delays it.

Stands between the workers and one server, where a network would; the server itself stays untouched. Counts what
each misbehaviour did, because a fault that met no connection proves nothing.
"""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

#: Bytes read at once.
CHUNK = 65536


@dataclass(eq=False, slots=True)
class _Connection:
    """Both ends of one connection, and whether bytes of it were swallowed: then it can never make sense again."""

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
    #: Seconds that everything takes longer now.
    delay_s: float = 0.0
    #: Whether everything disappears now. New connections are taken and nothing comes of them.
    dropping: bool = False
    #: How many connections were cut, bytes swallowed and chunks delayed so far.
    connections_cut: int = 0
    dropped_bytes: int = 0
    delayed_chunks: int = 0
    _connections: set[_Connection] = field(default_factory=set)
    #: Accepted while swallowing: they lead nowhere.
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
        """Reset every connection; new ones are welcome. Gives how many there were."""
        return self._cut(list(self._connections))

    def drop_data(self) -> None:
        """From now on nothing that is sent arrives, in either direction, and nobody is told."""
        self.dropping = True

    def delay_data(self, delay_s: float) -> None:
        """From now on everything takes `delay_s` longer."""
        self.delay_s = delay_s

    def heal(self) -> None:
        """Forward faithfully. Connections that lost bytes are reset: what comes after a gap makes no sense."""
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
            while data := await reader.read(CHUNK):
                self.dropped_bytes += len(data)
        except OSError:
            pass

    async def _forward(self, connection: _Connection, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(CHUNK):
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
            if not self.dropping:  # a black hole keeps the news of an end to itself
                sink.close()
                self._connections.discard(connection)
            else:
                connection.lost_bytes = True

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
