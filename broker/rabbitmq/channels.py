"""AMQP channels for messages: one publishes and tracks confirms, one consumes.

They share the socket with aio-pika: `FrameProtocol` passes each channel its own frames and all others to aio-pika, which handles
the handshake, heartbeats, declarations and closing. Both channels work synchronously on the bytes received, without a task or
future for each message, so no cancellation can interrupt their accounting.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from broker.amqp_properties import as_received, read_body_size, read_wire
from broker.rabbitmq import frames
from broker.transport import Delivery, Outgoing, Receipt, Wire

#: Interval in seconds at which aio-pika gets a heartbeat frame while it sees no frames: it would take the connection for dead.
HEARTBEAT_INTERVAL_S = 1.0


class Writer(Protocol):
    """The part of asyncio's StreamWriter that the channels use."""

    def write(self, data: bytes, /) -> None: ...


class Channel:
    """A channel whose message frames are handled here. `on_error` is called with a reason when the broker closes it."""

    def __init__(self, number: int, writer: Writer, on_error: Callable[[str], None]) -> None:
        self.number = number
        #: False once the channel or its connection is closed.
        self.alive = True
        self._writer = writer
        self._on_error = on_error
        self._finish: Callable[[Wire], None] | None = None
        self._header = b""
        self._parts: list[bytes] = []
        self._missing = 0

    def on_frame(self, kind: int, payload: bytes) -> bool:
        """Handle one frame of this channel; return False to leave it to aio-pika."""
        if kind == frames.METHOD:
            return self._on_method(frames.method_of(payload), payload)
        if self._finish is None:
            return False
        if kind == frames.HEADER:
            self._header = payload
            self._parts = []
            self._missing = read_body_size(payload)
        else:
            self._parts.append(payload)
            self._missing -= len(payload)
        if self._missing <= 0:
            finish, self._finish = self._finish, None
            finish(read_wire(self._header, b"".join(self._parts)))
        return True

    def on_lost(self) -> None:
        """Mark the channel as lost. Called once."""
        self.alive = False

    def _send(self, data: bytes) -> None:
        try:
            self._writer.write(data)
        except RuntimeError as error:  # aio-pika is closing the socket and has sent EOF
            self._on_error(f"the socket is closed for writing: {error}")

    def _on_method(self, method: int, payload: bytes) -> bool:
        """Note the end of the channel and return False: aio-pika answers the methods that the subclass does not handle."""
        if method == frames.CHANNEL_CLOSE:
            self._on_error(f"the broker closed the channel: {frames.read_close(payload)}")
        elif method == frames.CANCEL:
            self._on_error("the broker cancelled the consumer: its queue was deleted or moved")
        return False


class PublishBatch:
    """Messages published together: a receipt for each, and a future that is done when all are known."""

    __slots__ = ("done", "receipts", "unknown")

    def __init__(self, size: int) -> None:
        self.receipts: list[Receipt | None] = [None] * size
        self.unknown = size
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def settle(self, index: int, receipt: Receipt) -> None:
        """Set the receipt of one message. The first one counts: RabbitMQ also confirms a message after returning it."""
        if self.receipts[index] is None:
            self.receipts[index] = receipt
            self.unknown -= 1
            if self.unknown == 0:
                self._finish()

    def abandon(self) -> None:
        """Stop waiting; messages without a receipt are in doubt."""
        self._finish()

    def result(self) -> list[Receipt]:
        return [receipt or Receipt.UNKNOWN for receipt in self.receipts]

    def _finish(self) -> None:
        if not self.done.done():
            self.done.set_result(None)


class PublishChannel(Channel):
    """A channel in confirm mode, used for publishing by this class only.

    The broker numbers the publishes of a channel from 1 and confirms by number. A batch is encoded first, then numbered and
    written without an await in between: either all of it is sent, or none of it. The caller that awaits a batch may be cancelled
    or time out; its numbers are kept until the broker confirms them or the channel is lost, so that a later confirm is never
    attributed to another message."""

    def __init__(self, number: int, writer: Writer, on_error: Callable[[str], None], frame_max: int) -> None:
        super().__init__(number, writer, on_error)
        self._frame_max = frame_max
        self._next = 1
        self._oldest_unconfirmed = 1
        self._unconfirmed: dict[int, tuple[PublishBatch, int, Outgoing]] = {}

    def publish(self, outgoing: Sequence[Outgoing]) -> PublishBatch:
        """Number and write all messages, without an await in between."""
        number, frame_max = self.number, self._frame_max
        data = b"".join([frames.publish_frames(number, item, frame_max) for item in outgoing])
        batch = PublishBatch(len(outgoing))
        if not self.alive:
            batch.abandon()
            return batch
        for index, item in enumerate(outgoing):
            self._unconfirmed[self._next + index] = (batch, index, item)
        self._next += len(outgoing)
        self._send(data)
        return batch

    def on_lost(self) -> None:
        super().on_lost()
        for batch, _, _ in self._unconfirmed.values():
            batch.abandon()
        self._unconfirmed.clear()

    def _on_method(self, method: int, payload: bytes) -> bool:
        if method in (frames.ACK, frames.NACK):
            tag, multiple = frames.read_confirm(payload)
            self._settle(tag, Receipt.CONFIRMED if method == frames.ACK else Receipt.UNKNOWN, multiple=multiple)
            return True
        if method == frames.RETURN:
            exchange, routing_key = frames.read_return(payload)
            self._finish = lambda wire: self._returned(exchange, routing_key, wire)
            return True
        return super()._on_method(method, payload)

    def _settle(self, tag: int, receipt: Receipt, *, multiple: bool) -> None:
        # At most one `multiple` visits a number, so the cost for each message does not grow with the batch.
        for number in range(self._oldest_unconfirmed, tag + 1) if multiple else (tag,):
            entry = self._unconfirmed.pop(number, None)
            if entry:
                entry[0].settle(entry[1], receipt)
        if multiple:
            self._oldest_unconfirmed = tag + 1

    def _returned(self, exchange: str, routing_key: str, wire: Wire) -> None:
        """Mark the first matching unsettled message as unroutable: a return has no number, but returns keep the publish order.

        That order also distinguishes the copies of a message published twice. The search is linear, because returns are rare."""
        for batch, index, item in self._unconfirmed.values():
            address = item.address
            if (
                (address.routing_key, address.exchange) == (routing_key, exchange)
                and as_received(item.wire.message_id) == wire.message_id
                and batch.receipts[index] is None
            ):
                batch.settle(index, Receipt.UNROUTABLE)
                return


class ConsumeChannel(Channel):
    """A channel with one consumer, or for single messages by `get`.

    A sink must not raise: the error ends the connection, and unsettled messages are delivered again."""

    def __init__(self, number: int, writer: Writer, on_error: Callable[[str], None], sink: Callable[[Delivery], None]) -> None:
        super().__init__(number, writer, on_error)
        self._sink = sink
        self._replies: deque[asyncio.Future[Wire | None]] = deque()

    def ack(self, tag: int) -> None:
        """Acknowledge `tag` and all deliveries before it."""
        self._send(frames.ack_frame(self.number, tag))

    def reject(self, tag: int) -> None:
        """Return a delivery to its queue."""
        self._send(frames.reject_frame(self.number, tag))

    def get(self, queue: str, count: int) -> "list[asyncio.Future[Wire | None]]":
        """Request `count` messages of `queue`, left unsettled; the result is None where the queue was empty."""
        loop = asyncio.get_running_loop()
        replies: list[asyncio.Future[Wire | None]] = [loop.create_future() for _ in range(count)]
        self._replies += replies
        self._send(frames.get_frame(self.number, queue) * count)
        return replies

    def on_lost(self) -> None:
        super().on_lost()
        for reply in self._replies:
            reply.cancel()

    def _on_method(self, method: int, payload: bytes) -> bool:
        if method == frames.DELIVER:
            tag, redelivered, exchange, routing_key = frames.read_deliver(payload)
            self._finish = lambda wire: self._sink(Delivery(wire, redelivered, tag, self, exchange, routing_key))
            return True
        if method == frames.GET_OK:
            self._finish = self._answer
            return True
        if method == frames.GET_EMPTY:
            self._answer(None)
            return True
        return super()._on_method(method, payload)

    def _answer(self, wire: Wire | None) -> None:
        reply = self._replies.popleft()
        if not reply.done():
            reply.set_result(wire)


class FrameProtocol(asyncio.StreamReaderProtocol):
    """Removes the frames of registered channels from the stream before aio-pika reads it."""

    def __init__(self, reader: asyncio.StreamReader, on_lost: Callable[[str], None]) -> None:
        self._loop = asyncio.get_running_loop()
        super().__init__(reader, loop=self._loop)
        self.channels: dict[int, Channel] = {}
        self._on_lost = on_lost
        self._incomplete_frame = b""
        self._last_heartbeat = self._loop.time()

    def data_received(self, data: bytes) -> None:
        if self._incomplete_frame:
            data = self._incomplete_frame + data
        passed = []
        handled_frames = False
        pos = 0
        while len(data) - pos >= frames.FRAME_HEAD.size:
            kind, number, length = frames.FRAME_HEAD.unpack_from(data, pos)
            end = pos + length + frames.FRAME_OVERHEAD
            if end > len(data):
                break
            channel = self.channels.get(number)
            if channel is not None and channel.on_frame(kind, data[pos + 7 : end - 1]):
                handled_frames = True
            else:
                passed.append(data[pos:end])
            pos = end
        self._incomplete_frame = data[pos:]
        if handled_frames and self._loop.time() - self._last_heartbeat > HEARTBEAT_INTERVAL_S:
            self._last_heartbeat = self._loop.time()
            passed.append(frames.HEARTBEAT_FRAME)
        if passed:
            super().data_received(b"".join(passed))

    def eof_received(self) -> bool | None:
        if self._incomplete_frame:  # not a frame: the protocol header of a server with another AMQP version
            super().data_received(self._incomplete_frame)
        return super().eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._on_lost(f"the connection was lost: {exc or 'closed by the broker'}")
