"""The frames of AMQP 0-9-1 that messages travel in: publish, deliver, get, return, ack, nack, reject. Bytes only, no connection.

Everything else of the protocol (handshake, heartbeats, declarations, closing) is aio-pika's. What a message
carries besides its body is in `broker.amqp_properties`.
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
    """All frames of one persistent message: method, content header, and the body in parts that fit frames of `frame_max` bytes.

    Takes whatever is in the wire message, but for a stranger's headers that would not fit: the content header has one frame, a
    broker hangs up on a larger one, and what a stranger sent just below that size grows when it is put aside.
    Raises ValueError for an exchange or routing key of over 255 bytes."""
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
    """Acknowledge `tag` and everything before it."""
    return _method(channel, _METHOD_TAG_BIT.pack(ACK, tag, 1))


def reject_frame(channel: int, tag: int) -> bytes:
    """Give one delivery back to its queue. (A nack would no longer count towards the delivery limit on RabbitMQ 4.3.)"""
    return _method(channel, _METHOD_TAG_BIT.pack(REJECT, tag, 1))


def get_frame(channel: int, queue: str) -> bytes:
    """Ask for one message of `queue`, to be settled."""
    return _method(channel, _METHOD_RESERVED.pack(GET, 0) + _name(queue) + b"\x00")


@lru_cache(maxsize=1024)
def _publish_method(channel: int, address: Address) -> bytes:
    names = _name(address.exchange) + _name(address.routing_key)
    return _method(channel, _METHOD_RESERVED.pack(PUBLISH, 0) + names + bytes((address.mandatory,)))


def _method(channel: int, payload: bytes) -> bytes:
    return FRAME_HEAD.pack(METHOD, channel, len(payload)) + payload + FRAME_END


def _name(text: str) -> bytes:
    """A short string that must not be cut."""
    if len(text.encode()) > SHORT_MAX:
        msg = f"AMQP allows names and routing keys of at most {SHORT_MAX} bytes: {text}"
        raise ValueError(msg)
    return write_short(text)


def method_of(payload: bytes) -> int:
    """Class and method number of a method frame."""
    return int.from_bytes(payload[:4])


def read_confirm(payload: bytes) -> tuple[int, bool]:
    """Of an ack or nack: the delivery tag, and whether all before it are meant too."""
    tag, bits = _TAG_BITS.unpack_from(payload, 4)
    return tag, bits & 1 == 1


def read_deliver(payload: bytes) -> tuple[int, bool, str, str]:
    """Delivery tag, whether it was delivered before, exchange and routing key. The consumer tag stands before them."""
    pos = 5 + payload[4]
    tag, bits = _TAG_BITS.unpack_from(payload, pos)
    exchange, routing_key = _two_names(payload[pos + _TAG_BITS.size :])
    return tag, bits & 1 == 1, exchange, routing_key


@lru_cache(maxsize=1024)
def _two_names(data: bytes) -> tuple[str, str]:
    """Two short strings. Remembered: a worker meets the same few of them with every message."""
    first, pos = read_short(data, 0)
    return first, read_short(data, pos)[0]


def read_return(payload: bytes) -> tuple[str, str]:
    """Exchange and routing key of a returned message. Reply code and text stand before them."""
    exchange, pos = read_short(payload, 7 + payload[6])
    return exchange, read_short(payload, pos)[0]


def read_close(payload: bytes) -> str:
    """Why the broker closed a channel: its code and text."""
    return f"{int.from_bytes(payload[4:6])} {read_short(payload, 6)[0]}"
