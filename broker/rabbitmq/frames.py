"""AMQP 0-9-1 frames for messages: publish, deliver, get, return, ack, nack and reject, as bytes.

aio-pika handles the rest of the protocol (handshake, heartbeats, declarations, closing). The content header with properties and
headers is in `broker.amqp_properties`.
"""

import struct
from functools import lru_cache
from typing import Final

from broker.amqp_properties import SHORT_MAX, read_short, without_foreign_headers, write_header, write_short
from broker.topology import Address
from broker.transport import Outgoing

METHOD: Final = 1
HEADER: Final = 2
BODY: Final = 3
FRAME_END: Final = b"\xce"
HEARTBEAT_FRAME: Final = b"\x08\x00\x00\x00\x00\x00\x00\xce"
#: Kind (1 byte), channel (2), size of the payload (4); the payload and one end byte follow.
FRAME_HEAD: Final = struct.Struct(">BHI")
#: Bytes of a frame beside its payload.
FRAME_OVERHEAD: Final = 8

# Class and method numbers, as the first four bytes of a method frame hold them.
CHANNEL_CLOSE: Final = 0x00140028
CANCEL: Final = 0x003C001E
PUBLISH: Final = 0x003C0028
RETURN: Final = 0x003C0032
DELIVER: Final = 0x003C003C
GET: Final = 0x003C0046
GET_OK: Final = 0x003C0047
GET_EMPTY: Final = 0x003C0048
ACK: Final = 0x003C0050
REJECT: Final = 0x003C005A
NACK: Final = 0x003C0078

_METHOD_RESERVED: Final = struct.Struct(">IH")
_METHOD_TAG_BIT: Final = struct.Struct(">IQB")
_TAG_BITS: Final = struct.Struct(">QB")


def publish_frames(channel: int, outgoing: Outgoing, frame_max: int) -> bytes:
    """Return all frames of one persistent message: method, content header, and the body in parts of at most `frame_max` bytes.

    Foreign headers are dropped if the content header would not fit in its single frame: RabbitMQ closes the connection on a
    larger one, and headers received just below that size may grow when they are written again.
    Raises ValueError for an exchange or routing key of more than 255 bytes."""
    body = outgoing.wire.body
    header = write_header(outgoing.wire, outgoing.delay_s)
    if len(header) > frame_max - FRAME_OVERHEAD:
        header = write_header(without_foreign_headers(outgoing.wire), outgoing.delay_s)
    frames = [_publish_method(channel, outgoing.address), FRAME_HEAD.pack(HEADER, channel, len(header)), header, FRAME_END]
    step = frame_max - FRAME_OVERHEAD
    for start in range(0, len(body), step):
        part = body[start : start + step]
        frames += (FRAME_HEAD.pack(BODY, channel, len(part)), part, FRAME_END)
    return b"".join(frames)


def ack_frame(channel: int, tag: int) -> bytes:
    """Return the frame that acknowledges `tag` and all deliveries before it."""
    return _method(channel, _METHOD_TAG_BIT.pack(ACK, tag, 1))


def reject_frame(channel: int, tag: int) -> bytes:
    """Return the frame that requeues one delivery. (A nack does not count towards the delivery limit on RabbitMQ 4.3.)"""
    return _method(channel, _METHOD_TAG_BIT.pack(REJECT, tag, 1))


def get_frame(channel: int, queue: str) -> bytes:
    """Return the frame that requests one message of `queue`, to be settled later."""
    return _method(channel, _METHOD_RESERVED.pack(GET, 0) + _name(queue) + b"\x00")


@lru_cache(maxsize=1024)
def _publish_method(channel: int, address: Address) -> bytes:
    names = _name(address.exchange) + _name(address.routing_key)
    return _method(channel, _METHOD_RESERVED.pack(PUBLISH, 0) + names + bytes((address.mandatory,)))


def _method(channel: int, payload: bytes) -> bytes:
    return FRAME_HEAD.pack(METHOD, channel, len(payload)) + payload + FRAME_END


def _name(text: str) -> bytes:
    """Return a short string that must not be cut. Raises ValueError if it is too long."""
    if len(text.encode()) > SHORT_MAX:
        msg = f"AMQP allows names and routing keys of at most {SHORT_MAX} bytes: {text}"
        raise ValueError(msg)
    return write_short(text)


def method_of(payload: bytes) -> int:
    """Return the class and method number of a method frame."""
    return int.from_bytes(payload[:4])


def read_confirm(payload: bytes) -> tuple[int, bool]:
    """Return the delivery tag of an ack or nack, and whether it includes all tags before it."""
    tag, bits = _TAG_BITS.unpack_from(payload, 4)
    return tag, bits & 1 == 1


def read_deliver(payload: bytes) -> tuple[int, bool, str, str]:
    """Return delivery tag, redelivered flag, exchange and routing key. They follow the consumer tag."""
    pos = 5 + payload[4]
    tag, bits = _TAG_BITS.unpack_from(payload, pos)
    exchange, routing_key = _two_names(payload[pos + _TAG_BITS.size :])
    return tag, bits & 1 == 1, exchange, routing_key


@lru_cache(maxsize=1024)
def _two_names(data: bytes) -> tuple[str, str]:
    """Return two short strings. Cached, because a worker receives the same few pairs with every message."""
    first, pos = read_short(data, 0)
    return first, read_short(data, pos)[0]


def read_return(payload: bytes) -> tuple[str, str]:
    """Return exchange and routing key of a returned message. They follow the reply code and text."""
    exchange, pos = read_short(payload, 7 + payload[6])
    return exchange, read_short(payload, pos)[0]


def read_close(payload: bytes) -> str:
    """Return code and text of the reason why the broker closed a channel."""
    return f"{int.from_bytes(payload[4:6])} {read_short(payload, 6)[0]}"
