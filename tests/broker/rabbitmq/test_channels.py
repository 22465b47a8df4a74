"""Accounting of the publish and consume channels, and the sorting of frames, on bytes without a connection."""

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.rabbitmq import channels
from broker.rabbitmq import frames as amqp_frames
from broker.rabbitmq.channels import Channel, ConsumeChannel, FrameProtocol, PublishChannel
from broker.topology import Address
from broker.transport import Delivery, Outgoing, Receipt, Wire
from tests.support.broker.frames import Socket, confirm, deliver, frame, returned

C, N, U = Receipt.CONFIRMED, Receipt.UNROUTABLE, Receipt.UNKNOWN


def outgoing(message_id: str | None = None, key: str = "stock", body: bytes = b"") -> Outgoing:
    return Outgoing(Address("x", key, mandatory=True), Wire(body, message_id))


def feed(channel: Channel, *frames: tuple[int, bytes]) -> None:
    for kind, payload in frames:
        assert channel.on_frame(kind, payload)


def publisher() -> tuple[PublishChannel, list[str]]:
    errors: list[str] = []
    return PublishChannel(1, Socket(), errors.append, 1000), errors


# --- publishing -----------------------------------------------------------------------------------------------------------


async def test_single_and_multiple_confirms_settle_their_messages() -> None:
    channel, _ = publisher()
    first, second = channel.publish([outgoing() for _ in range(3)]), channel.publish([outgoing() for _ in range(3)])
    feed(channel, confirm(amqp_frames.ACK, 2), confirm(amqp_frames.NACK, 4))
    assert not first.done.done()
    feed(channel, confirm(amqp_frames.ACK, 5, multiple=True))
    assert first.done.done()
    assert first.result() == [C, C, C]
    assert not second.done.done()
    feed(channel, confirm(amqp_frames.ACK, 6))
    assert second.result() == [U, C, C]  # refused by the broker: it may be published again


async def test_multiple_confirm_settles_only_unsettled_messages() -> None:
    channel, _ = publisher()
    batch = channel.publish([outgoing() for _ in range(4)])
    feed(channel, confirm(amqp_frames.ACK, 3, multiple=True), confirm(amqp_frames.NACK, 4, multiple=True))
    assert batch.result() == [C, C, C, U]


async def test_returns_of_duplicates_follow_the_publish_order() -> None:
    channel, _ = publisher()
    duplicate = outgoing("duplicate", "unbound", b"body")
    batch = channel.publish([outgoing("duplicate"), duplicate, outgoing("other", "unbound"), duplicate])
    feed(
        channel,
        *returned(duplicate),
        *returned(outgoing("other", "unbound")),
        *returned(duplicate),
        confirm(amqp_frames.ACK, 4, multiple=True),
    )
    assert batch.result() == [C, N, N, N]
    second = channel.publish([duplicate, duplicate])
    feed(channel, *returned(duplicate), confirm(amqp_frames.ACK, 6, multiple=True))
    assert second.result() == [N, C]


async def test_confirms_of_an_abandoned_batch_are_still_tracked() -> None:
    channel, _ = publisher()
    abandoned = channel.publish([outgoing(), outgoing()])
    abandoned.done.cancel()
    batch = channel.publish([outgoing()])
    feed(channel, confirm(amqp_frames.ACK, 1), confirm(amqp_frames.NACK, 2))
    assert not batch.done.done()
    feed(channel, confirm(amqp_frames.ACK, 3))
    assert batch.result() == [C]


async def test_lost_channel_leaves_open_publishes_in_doubt() -> None:
    channel, _ = publisher()
    batch = channel.publish([outgoing(), outgoing()])
    feed(channel, confirm(amqp_frames.ACK, 1))
    channel.on_lost()
    assert batch.done.done()
    assert batch.result() == [C, U]
    late = channel.publish([outgoing()])
    assert late.done.done()
    assert late.result() == [U]


async def test_batch_with_a_too_long_name_is_refused_as_a_whole() -> None:
    channel, _ = publisher()
    with pytest.raises(ValueError, match="255"):
        channel.publish([outgoing(), outgoing(key="k" * 256)])
    batch = channel.publish([outgoing()])
    feed(channel, confirm(amqp_frames.ACK, 1))
    assert batch.result() == [C]


async def test_closed_socket_is_reported_and_does_not_raise() -> None:
    socket, errors = Socket(), list[str]()
    channel = PublishChannel(1, socket, errors.append, 1000)
    socket.closed = True
    channel.publish([outgoing()])
    assert errors == ["the socket is closed for writing: Cannot call write() after write_eof()"]


async def test_channel_close_is_reported_and_left_to_aio_pika() -> None:
    channel, errors = publisher()
    text = b"NOT_FOUND - no exchange 'x'"
    assert not channel.on_frame(
        amqp_frames.METHOD, amqp_frames.CHANNEL_CLOSE.to_bytes(4) + (404).to_bytes(2) + bytes([len(text)]) + text
    )
    assert errors == ["the broker closed the channel: 404 NOT_FOUND - no exchange 'x'"]


# --- sorting frames -------------------------------------------------------------------------------------------------------


@given(st.data())
def test_frames_are_sorted_however_the_stream_is_split(data: st.DataObject) -> None:
    wires = [Wire(b"", "empty"), Wire(b"x" * 25, "three parts", headers={"attempt": 2}), Wire(b"y" * 10, "one part")]
    foreign = [
        frame(0, 8, b""),
        deliver(2, 1, Wire(b"z", "not ours")),
        frame(1, amqp_frames.METHOD, (0x003C0015).to_bytes(4) + b"\x03tag"),
    ]
    stream = b"".join(foreign[i] + deliver(1, i + 1, wires[i], redelivered=i == 1, part=10) for i in range(3))
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=10).map(sorted))

    async def run() -> tuple[list[Delivery], bytes]:
        reader = asyncio.StreamReader()
        protocol = FrameProtocol(reader, lambda _: None)
        delivered: list[Delivery] = []
        protocol.channels[1] = ConsumeChannel(1, Socket(), lambda _: None, delivered.append)
        for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
            if stream[start:end]:
                protocol.data_received(stream[start:end])
        reader.feed_eof()
        return delivered, await reader.read()

    delivered, passed = asyncio.run(run())
    assert [delivery.wire for delivery in delivered] == wires
    assert [(delivery.tag, delivery.redelivered) for delivery in delivered] == [(1, False), (2, True), (3, False)]
    assert passed == b"".join(foreign)


async def test_aio_pika_gets_heartbeats_while_deliveries_arrive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channels, "HEARTBEAT_INTERVAL_S", 0.0)
    reader = asyncio.StreamReader()
    protocol = FrameProtocol(reader, lambda _: None)
    delivered: list[Any] = []
    protocol.channels[1] = ConsumeChannel(1, Socket(), lambda _: None, delivered.append)
    await asyncio.sleep(0.001)  # the clock has moved on
    protocol.data_received(deliver(1, 1, Wire(b"")))
    assert len(delivered) == 1
    assert await reader.readexactly(8) == amqp_frames.HEARTBEAT_FRAME


async def test_incomplete_frame_is_passed_to_aio_pika_at_eof() -> None:
    reader = asyncio.StreamReader()
    protocol = FrameProtocol(reader, lambda _: None)
    protocol.data_received(b"AMQP\x00\x01\x00\x00")  # a server that speaks AMQP 1.0
    protocol.eof_received()
    assert await reader.read() == b"AMQP\x00\x01\x00\x00"
