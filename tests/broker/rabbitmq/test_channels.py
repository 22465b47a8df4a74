"""The book-keeping of the two channels and the sorting of frames, on bytes alone."""

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
    troubles: list[str] = []
    return PublishChannel(1, Socket(), troubles.append, 1000), troubles


# --- publishing -----------------------------------------------------------------------------------------------------------


async def test_confirms_are_booked_one_by_one_and_in_bulk() -> None:
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


async def test_a_bulk_confirm_speaks_only_of_what_nobody_has_spoken_of_yet() -> None:
    channel, _ = publisher()
    batch = channel.publish([outgoing() for _ in range(4)])
    feed(channel, confirm(amqp_frames.ACK, 3, multiple=True), confirm(amqp_frames.NACK, 4, multiple=True))
    assert batch.result() == [C, C, C, U]


async def test_twins_are_returned_in_the_order_they_were_published() -> None:
    channel, _ = publisher()
    twin = outgoing("twin", "nobody", b"body")
    batch = channel.publish([outgoing("twin"), twin, outgoing("other", "nobody"), twin])
    feed(
        channel,
        *returned(twin),
        *returned(outgoing("other", "nobody")),
        *returned(twin),
        confirm(amqp_frames.ACK, 4, multiple=True),
    )
    assert batch.result() == [C, N, N, N]
    second = channel.publish([twin, twin])
    feed(channel, *returned(twin), confirm(amqp_frames.ACK, 6, multiple=True))
    assert second.result() == [N, C]


async def test_nobody_waits_any_more_but_the_book_goes_on() -> None:
    channel, _ = publisher()
    abandoned = channel.publish([outgoing(), outgoing()])
    abandoned.done.cancel()
    batch = channel.publish([outgoing()])
    feed(channel, confirm(amqp_frames.ACK, 1), confirm(amqp_frames.NACK, 2))
    assert not batch.done.done()
    feed(channel, confirm(amqp_frames.ACK, 3))
    assert batch.result() == [C]


async def test_a_lost_channel_leaves_in_doubt_what_is_open_and_takes_nothing_new() -> None:
    channel, _ = publisher()
    batch = channel.publish([outgoing(), outgoing()])
    feed(channel, confirm(amqp_frames.ACK, 1))
    channel.on_lost()
    assert batch.done.done()
    assert batch.result() == [C, U]
    late = channel.publish([outgoing()])
    assert late.done.done()
    assert late.result() == [U]


async def test_a_batch_with_a_name_that_amqp_cannot_carry_is_refused_before_anything_is_numbered() -> None:
    channel, _ = publisher()
    with pytest.raises(ValueError, match="255"):
        channel.publish([outgoing(), outgoing(key="k" * 256)])
    batch = channel.publish([outgoing()])
    feed(channel, confirm(amqp_frames.ACK, 1))
    assert batch.result() == [C]


async def test_a_socket_that_takes_nothing_any_more_is_trouble_not_an_error() -> None:
    socket, troubles = Socket(), list[str]()
    channel = PublishChannel(1, socket, troubles.append, 1000)
    socket.closed = True
    channel.publish([outgoing()])
    assert troubles == ["the socket takes nothing any more: Cannot call write() after write_eof()"]


async def test_a_channel_that_the_broker_closes_tells_why_and_leaves_the_answer_to_aio_pika() -> None:
    channel, troubles = publisher()
    text = b"NOT_FOUND - no exchange 'x'"
    assert not channel.on_frame(
        amqp_frames.METHOD, amqp_frames.CHANNEL_CLOSE.to_bytes(4) + (404).to_bytes(2) + bytes([len(text)]) + text
    )
    assert troubles == ["the broker closed the channel: 404 NOT_FOUND - no exchange 'x'"]


# --- sorting frames -------------------------------------------------------------------------------------------------------


@given(st.data())
def test_however_the_stream_is_cut_deliveries_come_whole_and_the_rest_passes(data: st.DataObject) -> None:
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
        handed: list[Delivery] = []
        protocol.channels[1] = ConsumeChannel(1, Socket(), lambda _: None, handed.append)
        for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
            if stream[start:end]:
                protocol.data_received(stream[start:end])
        reader.feed_eof()
        return handed, await reader.read()

    handed, passed = asyncio.run(run())
    assert [delivery.wire for delivery in handed] == wires
    assert [(delivery.tag, delivery.redelivered) for delivery in handed] == [(1, False), (2, True), (3, False)]
    assert passed == b"".join(foreign)


async def test_aio_pika_is_told_that_the_connection_lives_although_it_sees_no_delivery(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channels, "HEARTBEAT_INTERVAL_S", 0.0)
    reader = asyncio.StreamReader()
    protocol = FrameProtocol(reader, lambda _: None)
    handed: list[Any] = []
    protocol.channels[1] = ConsumeChannel(1, Socket(), lambda _: None, handed.append)
    await asyncio.sleep(0.001)  # the clock has moved on
    protocol.data_received(deliver(1, 1, Wire(b"")))
    assert len(handed) == 1
    assert await reader.readexactly(8) == amqp_frames.HEARTBEAT_FRAME


async def test_what_is_no_frame_reaches_aio_pika_when_the_server_hangs_up() -> None:
    reader = asyncio.StreamReader()
    protocol = FrameProtocol(reader, lambda _: None)
    protocol.data_received(b"AMQP\x00\x01\x00\x00")  # a server that speaks AMQP 1.0
    protocol.eof_received()
    assert await reader.read() == b"AMQP\x00\x01\x00\x00"
