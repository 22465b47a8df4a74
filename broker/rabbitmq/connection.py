"""A connection to RabbitMQ on aio-pika that reconnects until it is closed.

`broker_request` translates errors of aio-pika and aiormq to the transport protocol's. Every failure (of the socket, of a channel,
a cancelled consumer) ends the whole session, and one loop opens the next: there is a single recovery path.
"""

import asyncio
import itertools
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any

import aio_pika
import structlog
from aio_pika.abc import AbstractChannel
from aiormq import exceptions as amqp_errors
from aiormq.connection import TransportFactory
from yarl import URL

from broker.rabbitmq.channels import Channel, FrameProtocol
from broker.transport import (
    BrokerRefused,
    DeclarationDiffers,
    NotPermitted,
    QueueMissing,
    TransportError,
    TransportUnavailable,
)

#: Timeout of connecting, and of one administrative request.
REQUEST_TIMEOUT_S = 10.0
#: Timeout of an orderly close, after which the connection is aborted.
CLOSE_TIMEOUT_S = 3.0
#: Backoff between attempts to connect: the first pause, doubling up to the last, each with jitter down to a half.
BACKOFF_FIRST_S, BACKOFF_LAST_S = 0.1, 5.0

#: aio-pika's channel, for declarations and other administrative requests.
ControlChannel = AbstractChannel

log = structlog.get_logger("broker.rabbitmq.connection")


@contextmanager
def _keep_cancellation() -> Iterator[None]:
    """Raise CancelledError at the end if the task was cancelled inside: aiormq may swallow it while a channel closes."""
    task = asyncio.current_task()
    before = task.cancelling() if task else 0
    try:
        yield
    finally:
        if task and task.cancelling() > before:
            raise asyncio.CancelledError


@asynccontextmanager
async def broker_request(action: str, timeout_s: float = REQUEST_TIMEOUT_S) -> AsyncIterator[None]:
    """Run a request to the broker with a timeout and translate its errors; `action` names the request in their messages.

    aio-pika raises CancelledError from a call when its connection is lost, although the caller was not cancelled. This function
    distinguishes that from a real cancellation, which it passes on. Raises TransportUnavailable or UnsafeTopology."""
    try:
        with _keep_cancellation():
            async with asyncio.timeout(timeout_s):
                yield
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        msg = f"{action}: the connection was lost"
        raise TransportUnavailable(msg) from None
    except TimeoutError as error:
        msg = f"{action}: no answer within {timeout_s:g} s"
        raise TransportUnavailable(msg) from error
    except amqp_errors.AMQPError as error:
        raise _translate(action, error) from error
    except StopAsyncIteration:  # aiormq's word for a connection that ended before its first frame
        msg = f"{action}: the connection was lost"
        raise TransportUnavailable(msg) from None
    except (OSError, RuntimeError) as error:  # aio-pika raises RuntimeError on a closed connection or channel
        msg = f"{action}: {_text(error)}"
        raise TransportUnavailable(msg) from error


def _text(error: Exception) -> str:
    return str(error) or "the connection was lost"


def _translate(action: str, error: amqp_errors.AMQPError) -> TransportError:
    match error:
        case amqp_errors.ChannelPreconditionFailed():
            advice = "it exists but was declared differently. Drain and delete it (`saga reset`), or use another prefix"
            return DeclarationDiffers(f"{action}: {advice}. RabbitMQ says: {error}")
        case amqp_errors.ChannelNotFoundEntity():
            return QueueMissing(f"{action}: it does not exist. Declare the topology first. RabbitMQ says: {error}")
        case amqp_errors.ChannelAccessRefused():
            advice = "this user has no permission for it. An administrator must declare the topology or grant it"
            return NotPermitted(f"{action}: {advice}. RabbitMQ says: {error}")
        case amqp_errors.ProbableAuthenticationError() | amqp_errors.AuthenticationError():
            return BrokerRefused(f"{action}: the broker refused the user name or password. It says: {error}")
        case amqp_errors.InvalidFrameError():  # aio-pika's error for a refused connection; it drops the broker's reason
            return BrokerRefused(f"{action}: refused. Is the virtual host right, and may this user enter it?")
        case _:
            return TransportUnavailable(f"{action}: {_text(error)}")


class _Socket(TransportFactory):
    """Opens the socket for aio-pika, with `FrameProtocol` on it."""

    def __init__(self, on_lost: Callable[[str], None]) -> None:
        self._on_lost = on_lost
        self.protocol: FrameProtocol
        self.writer: asyncio.StreamWriter

    async def create(self, url: URL, **kwargs: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:  # noqa: ANN401 - aiormq's
        certificates = kwargs.pop("ssl_context_provider")
        ssl = await certificates.get_context() if url.scheme == "amqps" else None
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(loop=loop)
        self.protocol = FrameProtocol(reader, self._on_lost)
        transport, _ = await loop.create_connection(lambda: self.protocol, url.host or "", url.port or 0, ssl=ssl, **kwargs)
        self.writer = asyncio.StreamWriter(transport, self.protocol, reader, loop)
        return reader, self.writer


class Session:
    """One live connection. `ended` is set to the reason when it ends."""

    def __init__(self) -> None:
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._socket = _Socket(self.end)
        self._connection: aio_pika.Connection
        #: Strong references: aio-pika holds channels weakly.
        self._channels: list[ControlChannel] = []

    @property
    def writer(self) -> asyncio.StreamWriter:
        return self._socket.writer

    @property
    def product(self) -> tuple[str, str]:
        """The product name and version that the broker reports."""
        transport = self._connection.transport
        assert transport is not None  # noqa: S101 - connected
        properties = transport.connection.server_properties
        return str(properties.get("product", "unknown")), str(properties.get("version", ""))

    @property
    def frame_max(self) -> int:
        """The maximum frame size that the broker accepts, in bytes."""
        transport = self._connection.transport
        assert transport is not None  # noqa: S101 - connected
        return transport.connection.connection_tune.frame_max

    async def connect(self, url: URL, timeout_s: float) -> None:
        """Connect. Raises TransportUnavailable, whose message names the host and never the password."""
        self._connection = aio_pika.Connection(url)
        self._connection.kwargs["transport_factory"] = self._socket
        try:
            async with broker_request(f"connecting to the broker at {url.host}:{url.port or 5672}", timeout_s):
                await self._connection.connect()
        except BaseException:
            with suppress(Exception):  # otherwise aio-pika's finalizer closes it, at an arbitrary time
                async with asyncio.timeout(CLOSE_TIMEOUT_S):
                    await self._connection.close()
            raise

    async def open_channel(self, *, confirms: bool = False) -> ControlChannel:
        return await self._connection.channel(publisher_confirms=confirms)

    def register(self, channel: ControlChannel, own_channel: Channel) -> None:
        """Pass the message frames of `channel` to `own_channel` from now on."""
        self._channels.append(channel)
        self._socket.protocol.channels[own_channel.number] = own_channel

    def unregister(self, own_channel: Channel) -> None:
        """Stop passing frames to `own_channel`: the channel is closed and its number may be reused."""
        del self._socket.protocol.channels[own_channel.number]

    def end(self, reason: str) -> None:
        """End the session: everything in flight on this connection is lost."""
        if not self.ended.done():
            self.ended.set_result(reason)
            for channel in self._socket.protocol.channels.values():
                channel.on_lost()

    async def close(self) -> None:
        """Close the connection; abort it if the broker does not answer in time."""
        self.end("closed")
        # A separate task, because aio-pika ignores a cancellation while it waits for a full socket.
        closing = asyncio.create_task(self._connection.close())
        closing.add_done_callback(lambda done: done.cancelled() or done.exception())  # retrieve the error and ignore it
        try:
            await asyncio.wait([closing], timeout=CLOSE_TIMEOUT_S)
        finally:
            self.writer.transport.abort()
        await asyncio.wait([closing], timeout=CLOSE_TIMEOUT_S)


class BrokerConnection:
    """A session and its successors after each loss. `build` opens the channels of a new session."""

    def __init__(self, url: URL, build: Callable[[Session], Awaitable[None]], timeout_s: float) -> None:
        self._url = url
        self._timeout_s = timeout_s
        self._build = build
        self._session: Session | None = None
        self._connected = asyncio.Event()
        self._reconnect_task: asyncio.Task[None] | None = None

    @property
    def session(self) -> Session | None:
        """The live session, or None."""
        session = self._session
        return session if session is not None and not session.ended.done() else None

    async def wait(self) -> Session:
        """Wait for a live session and return it."""
        while (session := self.session) is None:
            await asyncio.sleep(0)  # let `_reconnect_forever` notice that the last session has ended
            await self._connected.wait()
        return session

    async def open(self) -> None:
        """Connect, and reconnect until `close`. Idempotent. Raises TransportUnavailable if the first attempt fails."""
        if self._reconnect_task is not None:
            return
        session = await self._connect()
        self._reconnect_task = asyncio.create_task(
            self._reconnect_forever(session), name=f"{self._url.query.get('name')} reconnect"
        )

    async def close(self) -> None:
        session, self._session = self._session, None
        self._connected.clear()
        if self._reconnect_task is not None:
            self._reconnect_task.cancel()
            await asyncio.wait([self._reconnect_task])
            self._reconnect_task = None
        if session is not None:
            await session.close()

    async def _connect(self) -> Session:
        session = Session()
        await session.connect(self._url, self._timeout_s)
        try:
            async with broker_request("setting up a new connection", self._timeout_s):
                await self._build(session)
        except BaseException:
            await session.close()
            raise
        self._session = session
        self._connected.set()
        return session

    async def _reconnect_forever(self, session: Session) -> None:
        while True:
            await asyncio.wait([session.ended])
            self._session = None
            self._connected.clear()
            log.warning("connection_ended", connection=self._url.query.get("name"), reason=session.ended.result())
            await session.close()
            session = await self._reconnect()

    async def _reconnect(self) -> Session:
        for attempt in itertools.count():
            pause_s = min(BACKOFF_LAST_S, BACKOFF_FIRST_S * 2**attempt)
            await asyncio.sleep(random.uniform(pause_s / 2, pause_s))
            try:
                return await self._connect()
            except Exception as error:  # noqa: BLE001 - this task must not end: nothing awaits it
                log.warning("reconnect_failed", connection=self._url.query.get("name"), attempt=attempt + 1, reason=repr(error))
        raise AssertionError
