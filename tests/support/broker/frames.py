"""AMQP frames as a broker sends them, and a socket that records what a client writes."""

from broker.amqp_properties import write_header
from broker.rabbitmq import frames as amqp_frames
from broker.transport import Outgoing, Wire


class Socket:
    """Records what is written. While `closed` is set, a write fails."""

    def __init__(self) -> None:
        self.written = b""
        self.closed = False

    def write(self, data: bytes) -> None:
        if self.closed:
            raise RuntimeError("Cannot call write() after write_eof()")
        self.written += data


def confirm(method: int, tag: int, *, multiple: bool = False) -> tuple[int, bytes]:
    """Return a Basic.Ack or Basic.Nack from the broker."""
    return amqp_frames.METHOD, method.to_bytes(4) + tag.to_bytes(8) + bytes([multiple])


def returned(item: Outgoing) -> list[tuple[int, bytes]]:
    """Return the frames of a Basic.Return for `item`."""
    short = [bytes([len(text)]) + text.encode() for text in ("NO_ROUTE", item.address.exchange, item.address.routing_key)]
    method = amqp_frames.RETURN.to_bytes(4) + (312).to_bytes(2) + b"".join(short)
    frames = [(amqp_frames.METHOD, method), (amqp_frames.HEADER, write_header(item.wire, None))]
    return frames + ([(amqp_frames.BODY, item.wire.body)] if item.wire.body else [])


def frame(channel: int, kind: int, payload: bytes) -> bytes:
    """Return one frame with header and end byte."""
    return amqp_frames.FRAME_HEAD.pack(kind, channel, len(payload)) + payload + amqp_frames.FRAME_END


def deliver(channel: int, tag: int, wire: Wire, *, redelivered: bool = False, part: int = 1000) -> bytes:
    """Return the frames of a Basic.Deliver, the body in parts of at most `part` bytes."""
    method = amqp_frames.DELIVER.to_bytes(4) + b"\x03tag" + tag.to_bytes(8) + bytes([redelivered]) + b"\x01x\x05stock"
    frames = frame(channel, amqp_frames.METHOD, method) + frame(channel, amqp_frames.HEADER, write_header(wire, None))
    parts = [wire.body[start : start + part] for start in range(0, len(wire.body), part)]
    return frames + b"".join(frame(channel, amqp_frames.BODY, body) for body in parts)
