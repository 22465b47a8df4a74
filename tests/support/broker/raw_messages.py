"""Content headers that no client library writes, and a function that publishes them."""

from broker.rabbitmq import frames
from broker.rabbitmq.transport import RabbitTransport
from broker.transport import Outgoing


def raw(properties: bytes, flags: int) -> bytes:
    """Return a content header's payload, for an empty body."""
    return (60).to_bytes(2) + bytes(10) + flags.to_bytes(2) + properties


def table(fields: bytes) -> bytes:
    """Return a table of encoded fields."""
    return len(fields).to_bytes(4) + fields


def nested(depth: int) -> bytes:
    """Return a table nested `depth` times."""
    fields = b""
    for _ in range(depth):
        fields = b"\x01kF" + table(fields)
    return table(fields)


#: Name -> a content header that RabbitMQ accepts and a client must survive.
GARBAGE = {
    "an id that is not text": raw(b"\x02\xff\xfe", 0x0080),
    "a time out of range": raw((2**63).to_bytes(8), 0x0040),
    "a header name that is not text": raw(table(b"\x01\xffS" + table(b"v")), 0x2000),
    "a header that is not text": raw(table(b"\x01kS" + table(b"\xff")), 0x2000),
    "a header with a far time": raw(table(b"\x01kT" + (2**62).to_bytes(8)), 0x2000),
    "a thousand headers": raw(table(b"".join(b"\x04%04dI\x00\x00\x00\x01" % number for number in range(1000))), 0x2000),
    "tables nested five thousand deep": raw(nested(5000), 0x2000),
    "no properties at all": raw(b"", 0),
    "a queue to answer to": raw(b"\x0dpayment.queue", 0x0200),
    "an array of small numbers that grow": raw(table(b"\x04junkA" + table(b"b\x01" * 50_000)), 0x2000),
    "headers that fill a frame": raw(table(b"\x04junkS" + table(b"x" * 131_000)), 0x2000),
}


def publish_raw(client: RabbitTransport, outgoing: Outgoing, header: bytes) -> None:
    """Publish with the given content header, without any check and without a receipt."""
    channel = client._publisher
    method = frames.publish_frames(channel.number, outgoing, 1000).split(frames.FRAME_END)[0] + frames.FRAME_END
    channel._next += 1
    channel._send(method + frames.FRAME_HEAD.pack(frames.HEADER, channel.number, len(header)) + header + frames.FRAME_END)
