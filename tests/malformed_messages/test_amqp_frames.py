"""Mutated AMQP properties: every message is delivered and can be dead-lettered, and the next one is delivered too.

The number of mutations is that of tests/malformed_messages/test_mutations.py. A sender controls only the properties; the frames
around them are the broker's, and a malformed frame ends the connection, which is then replaced.
"""

import asyncio
import struct
from collections import Counter

from broker.amqp_properties import BROKER_HEADERS, DROPPED_HEADER, OWN_HEADERS, UNREADABLE_HEADER, read_wire, write_header
from broker.codec import DeadReason, Undecodable, decode
from broker.environment import Environment
from broker.loop.retry import Republisher
from broker.rabbitmq import frames as amqp_frames
from broker.rabbitmq.channels import ConsumeChannel, FrameProtocol
from broker.topology import Topology, WorkQueue
from broker.transport import Delivery, Outgoing, Wire
from tests.support.broker.frames import Socket, deliver, frame
from tests.support.malformed_messages.mutations import MUTATIONS, TYPES, ByteMutator, good_wires

FRAME_MAX = 131_072
STOCK = Topology("t", (WorkQueue("stock", takes_commands=("stock.Do",), listens_to=()),))
RICH = Wire(
    b"{}",
    message_id="019b0000-0000-7000-8000-000000000001",
    correlation_id="019b0000-0000-7000-8000-000000000002",
    type="order.PlaceOrder",
    timestamp=1_767_225_600,
    app_id="order",
    content_type="application/json",
    content_encoding="utf-8",
    headers={
        "version": 1,
        "attempt": 2,
        "text": "größer ☃",
        "real": 0.5,
        "none": None,
        "yes": True,
        "bytes": b"\x00\xff",
        "list": [1, "x", [None, {"k": 1}]],
        "table": {"a": {"b": {"c": [1.5]}}},
    },
)


def dead_letter(wire: Wire) -> Outgoing:
    """Return the dead letter of a message."""
    republisher = Republisher(transport=None, topology=STOCK, worker="stock", environment=Environment())  # type: ignore[arg-type] - nothing is sent
    return republisher.dead_letter_copy(Delivery(wire, redelivered=False, tag=1), DeadReason.NOT_JSON, "a test")


def header_of(frames: bytes) -> bytes:
    """Return the content header among the frames of a publish."""
    at = frames.index(amqp_frames.FRAME_END) + 1
    _, _, length = amqp_frames.FRAME_HEAD.unpack_from(frames, at)
    return frames[at + amqp_frames.FRAME_HEAD.size :][:length]


def headers() -> list[bytes]:
    """Return content headers as valid senders write them."""
    return [write_header(wire, 0.5) for wire in (RICH, Wire(b""), *good_wires(TYPES))]


def deliveries_of(stream: bytes) -> list[Delivery]:
    """Return the deliveries of a consumer on channel 1 for a stream of frames."""

    async def run() -> list[Delivery]:
        delivered: list[Delivery] = []
        protocol = FrameProtocol(asyncio.StreamReader(), lambda _: None)
        protocol.channels[1] = ConsumeChannel(1, Socket(), lambda _: None, delivered.append)
        protocol.data_received(stream)
        return delivered

    return asyncio.run(run())


def with_header(tag: int, header: bytes, body: bytes) -> bytes:
    """Return the frames of a delivery whose content header is valid in class and body size only."""
    method = amqp_frames.DELIVER.to_bytes(4) + b"\x03tag" + tag.to_bytes(8) + b"\x00\x01x\x05stock"
    valid_start = struct.pack(">HHQ", 60, 0, len(body)) + header[12:]
    return (
        frame(1, amqp_frames.METHOD, method)
        + frame(1, amqp_frames.HEADER, valid_start)
        + (frame(1, amqp_frames.BODY, body) if body else b"")
    )


def test_mutated_properties_do_not_stop_deliveries() -> None:
    mutator, size = ByteMutator(1, headers()), 100
    for first in range(0, MUTATIONS, size):
        bad = [with_header(tag, mutator.data(after=12), b"{}") for tag in range(1, size + 1)]
        delivered = deliveries_of(b"".join(bad) + deliver(1, size + 1, RICH))
        assert [delivery.tag for delivery in delivered] == list(range(1, size + 2)), f"after {first}"
        assert all(delivery.wire.body == b"{}" for delivery in delivered)
        assert delivered[-1].wire == RICH


def test_message_with_mutated_properties_can_be_dead_lettered() -> None:
    """The dead letter can be written again, and reads as before, with the reason added."""
    mutator, reasons = ByteMutator(2, headers()), Counter[str]()
    for _ in range(MUTATIONS):
        wire = read_wire(mutator.data(after=12), b"{}")
        try:
            decode(wire, TYPES)
        except Undecodable as refused:
            reasons[refused.reason] += 1
        dead = dead_letter(wire).wire
        again = read_wire(write_header(dead, None), dead.body)
        assert again.headers["dead_reason"] == "not_json"
        assert again.headers.keys() >= {key for key in wire.headers if key not in BROKER_HEADERS and len(key.encode()) <= 255}
        assert (again.message_id, again.type) == (_cut(wire.message_id), _cut(wire.type))
        reasons["unreadable headers"] += UNREADABLE_HEADER in wire.headers
    assert {DeadReason.NOT_JSON, DeadReason.WRONG_SCHEMA} & set(reasons), reasons
    assert reasons[DeadReason.MISSING_PROPERTY], reasons
    assert reasons["unreadable headers"], reasons


def _cut(text: str | None) -> str | None:
    """Return a property as read back: bytes that are not UTF-8 grow when read, and are cut when written."""
    return text if text is None else text.encode()[:255].decode("utf-8", "ignore")


def test_mutated_frames_are_read_or_end_the_connection() -> None:
    """On an error here asyncio ends the connection, and `BrokerConnection` opens the next."""
    good = [deliver(1, 1, RICH) + deliver(1, 2, Wire(b"x" * 100, "second"))]
    mutator, outcomes = ByteMutator(3, good), Counter[str]()
    for _ in range(min(MUTATIONS, 10_000)):
        try:
            deliveries_of(mutator.data())
            outcomes["read"] += 1
        except (IndexError, ValueError, struct.error):
            outcomes["ended"] += 1
    assert outcomes["read"], outcomes


# --- headers that grow ----------------------------------------------------------------------------------------------------


def largest_frame(data: bytes) -> int:
    """Return the size of the largest payload in `data`."""
    largest = pos = 0
    while pos < len(data):
        _, _, length = amqp_frames.FRAME_HEAD.unpack_from(data, pos)
        largest, pos = max(largest, length), pos + length + amqp_frames.FRAME_OVERHEAD
    return largest


def growing_header(count: int) -> bytes:
    """Return a content header whose array takes two bytes an item when read, and nine when written again."""
    items = b"b\x01" * count
    table = b"\x04junkA" + len(items).to_bytes(4) + items + b"\x07versionb\x01"
    return struct.pack(">HHQH", 60, 0, 2, 0x2080) + len(table).to_bytes(4) + table + b"\x01m"


def test_headers_too_large_for_a_frame_are_dropped() -> None:
    """A content header has one frame. A larger one would end the connection, again at every redelivery."""
    frames = amqp_frames.publish_frames(1, dead_letter(read_wire(growing_header(50_000), b"{}")), FRAME_MAX)
    assert largest_frame(frames) <= FRAME_MAX - amqp_frames.FRAME_OVERHEAD
    read = read_wire(header_of(frames), b"{}")
    assert (read.message_id, read.headers["version"], read.headers["dead_reason"]) == ("m", 1, "not_json")
    assert read.headers[DROPPED_HEADER] == 1
    assert "junk" not in read.headers


def test_headers_that_fit_are_kept() -> None:
    frames = amqp_frames.publish_frames(1, dead_letter(read_wire(growing_header(10_000), b"{}")), FRAME_MAX)
    assert read_wire(header_of(frames), b"{}").headers["junk"] == [1] * 10_000


def test_own_headers_list_is_complete() -> None:
    """Every header that the product writes is in the list of those that are never dropped."""
    wire = good_wires(TYPES)[0]
    republisher = Republisher(transport=None, topology=STOCK, worker="stock", environment=Environment())  # type: ignore[arg-type] - nothing is sent
    delivery = Delivery(wire, redelivered=False, tag=1)
    written = {*wire.headers, *republisher.dead_letter_copy(delivery, DeadReason.NOT_JSON, "").wire.headers}
    written |= {*republisher.delayed_copy(delivery, 0, 2, jitter=False).wire.headers, "traceparent", "injected"}
    assert written == OWN_HEADERS
