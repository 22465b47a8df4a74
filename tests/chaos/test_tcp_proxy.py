"""The TCP proxy forwards all data, and disturbs connections on request. Behind it is an echo server."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import pytest

from lab.chaos.tcp_proxy import TcpProxy
from tests.support.wait import until

#: Seconds to wait for an answer that must not come. A broken proxy would answer at once.
SILENCE_S = 0.2


@asynccontextmanager
async def echo() -> AsyncIterator[int]:
    """A server that returns all data. Yields its port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(1024):
                writer.write(data)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


class Client:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def echoed(self, data: bytes) -> bytes:
        """Send `data` and read as many bytes."""
        self.writer.write(data)
        return await asyncio.wait_for(self.reader.readexactly(len(data)), 5)

    async def is_closed(self) -> bool:
        """Whether the connection was reset or closed."""
        try:
            return await asyncio.wait_for(self.reader.read(1), 5) == b""
        except ConnectionError:
            return True


Connect = Callable[[int], Awaitable[Client]]


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    """Connects clients to a port, and closes them at the end."""
    clients: list[Client] = []

    async def to(port: int) -> Client:
        clients.append(Client(*await asyncio.open_connection("127.0.0.1", port)))
        return clients[-1]

    yield to
    for client in clients:
        client.writer.close()
        with suppress(OSError):
            await client.writer.wait_closed()


async def test_data_and_end_of_stream_are_forwarded_in_both_directions(connect: Connect) -> None:
    async with echo() as port, TcpProxy(port) as proxy:
        client = await connect(proxy.port)
        assert await client.echoed(b"x" * 100_000) == b"x" * 100_000
        client.writer.write_eof()
        assert await client.is_closed()
        assert (proxy.connections_cut, proxy.dropped_bytes, proxy.delayed_chunks) == (0, 0, 0)


async def test_a_cut_resets_every_connection_and_new_ones_are_accepted(connect: Connect) -> None:
    async with echo() as port, TcpProxy(port) as proxy:
        clients = [await connect(proxy.port) for _ in range(3)]
        for client in clients:
            await client.echoed(b"hello")
        assert proxy.cut() == 3
        assert all([await client.is_closed() for client in clients])
        assert await (await connect(proxy.port)).echoed(b"again") == b"again"
        assert proxy.connections_cut == 3


async def test_a_cut_without_connections_returns_zero(connect: Connect) -> None:
    async with echo() as port, TcpProxy(port) as proxy:
        client = await connect(proxy.port)
        await client.echoed(b"hello")
        client.writer.close()
        await until(lambda: not proxy._connections, "the proxy to notice the end")
        assert proxy.cut() == 0


async def test_a_black_hole_drops_data_silently_until_it_heals(connect: Connect) -> None:
    async with echo() as port, TcpProxy(port) as proxy:
        old = await connect(proxy.port)
        await old.echoed(b"before")
        proxy.drop_data()
        new = await connect(proxy.port)
        for client in (old, new):
            client.writer.write(b"lost")
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(client.reader.read(1), SILENCE_S)
        assert proxy.dropped_bytes == 8
        proxy.heal()
        assert await old.is_closed()
        assert await new.is_closed()
        assert await (await connect(proxy.port)).echoed(b"after") == b"after"


async def test_an_idle_connection_survives_a_black_hole(connect: Connect) -> None:
    async with echo() as port, TcpProxy(port) as proxy:
        client = await connect(proxy.port)
        await client.echoed(b"before")
        proxy.drop_data()
        proxy.heal()
        assert await client.echoed(b"after") == b"after"


async def test_a_slow_link_delays_both_directions_and_keeps_the_order(connect: Connect) -> None:
    loop = asyncio.get_running_loop()
    async with echo() as port, TcpProxy(port) as proxy:
        client = await connect(proxy.port)
        proxy.delay_data(0.1)
        started_at = loop.time()
        assert await client.echoed(b"slow") == b"slow"
        assert loop.time() - started_at >= 0.2
        client.writer.write(b"one")
        assert await client.echoed(b"two") == b"one"
        assert proxy.delayed_chunks >= 2
        proxy.heal()
        assert proxy.delay_s == 0


async def test_a_missing_server_resets_the_connection(connect: Connect) -> None:
    async with echo() as port:
        pass
    async with TcpProxy(port) as proxy:
        assert await (await connect(proxy.port)).is_closed()
