"""The proxy forwards faithfully, and misbehaves as it is told. The server behind it is an echo."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import pytest

from lab.chaos.tcp_proxy import TcpProxy
from tests.support.wait import until

#: How long an answer is waited for that shall not come. Only a broken proxy answers at all, and then at once.
SILENCE_S = 0.2


@asynccontextmanager
async def echo() -> AsyncIterator[int]:
    """A server that sends everything back; gives its port."""

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

    async def say(self, word: bytes) -> bytes:
        self.writer.write(word)
        return await asyncio.wait_for(self.reader.readexactly(len(word)), 5)

    async def gone(self) -> bool:
        """Whether the connection was reset or closed."""
        try:
            return await asyncio.wait_for(self.reader.read(1), 5) == b""
        except ConnectionError:
            return True


Connect = Callable[[int], Awaitable[Client]]


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    """Makes clients of a port, and closes them in the end."""
    clients: list[Client] = []

    async def to(port: int) -> Client:
        clients.append(Client(*await asyncio.open_connection("127.0.0.1", port)))
        return clients[-1]

    yield to
    for client in clients:
        client.writer.close()
        with suppress(OSError):
            await client.writer.wait_closed()


async def test_what_is_sent_arrives_in_both_directions_and_the_end_of_a_connection_too(connect: Connect) -> None:
    async with echo() as port, TcpProxy(port) as proxy:
        client = await connect(proxy.port)
        assert await client.say(b"x" * 100_000) == b"x" * 100_000
        client.writer.write_eof()
        assert await client.gone()
        assert (proxy.connections_cut, proxy.dropped_bytes, proxy.delayed_chunks) == (0, 0, 0)


async def test_a_cut_resets_every_connection_and_new_ones_are_welcome(connect: Connect) -> None:
    async with echo() as port, TcpProxy(port) as proxy:
        clients = [await connect(proxy.port) for _ in range(3)]
        for client in clients:
            await client.say(b"hello")
        assert proxy.cut() == 3
        assert all([await client.gone() for client in clients])
        assert await (await connect(proxy.port)).say(b"again") == b"again"
        assert proxy.connections_cut == 3


async def test_a_cut_without_connections_says_that_it_hit_nothing(connect: Connect) -> None:
    async with echo() as port, TcpProxy(port) as proxy:
        client = await connect(proxy.port)
        await client.say(b"hello")
        client.writer.close()
        await until(lambda: not proxy._connections, "the proxy to notice the end")
        assert proxy.cut() == 0


async def test_in_a_black_hole_nothing_arrives_and_nobody_is_told_until_it_heals(connect: Connect) -> None:
    async with echo() as port, TcpProxy(port) as proxy:
        old = await connect(proxy.port)
        await old.say(b"before")
        proxy.drop_data()
        new = await connect(proxy.port)
        for client in (old, new):
            client.writer.write(b"lost")
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(client.reader.read(1), SILENCE_S)
        assert proxy.dropped_bytes == 8
        proxy.heal()
        assert await old.gone()
        assert await new.gone()
        assert await (await connect(proxy.port)).say(b"after") == b"after"


async def test_a_connection_that_was_silent_during_a_black_hole_lives_on(connect: Connect) -> None:
    async with echo() as port, TcpProxy(port) as proxy:
        client = await connect(proxy.port)
        await client.say(b"before")
        proxy.drop_data()
        proxy.heal()
        assert await client.say(b"after") == b"after"


async def test_a_slow_link_takes_its_time_in_both_directions_and_keeps_the_order(connect: Connect) -> None:
    loop = asyncio.get_running_loop()
    async with echo() as port, TcpProxy(port) as proxy:
        client = await connect(proxy.port)
        proxy.delay_data(0.1)
        began = loop.time()
        assert await client.say(b"slow") == b"slow"
        assert loop.time() - began >= 0.2
        client.writer.write(b"one")
        assert await client.say(b"two") == b"one"
        assert proxy.delayed_chunks >= 2
        proxy.heal()
        assert proxy.delay_s == 0


async def test_a_server_that_is_away_is_a_connection_reset(connect: Connect) -> None:
    async with echo() as port:
        pass
    async with TcpProxy(port) as proxy:
        assert await (await connect(proxy.port)).gone()
