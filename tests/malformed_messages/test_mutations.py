"""Mutated messages: each is decoded, or refused with a reason.

tests/support/malformed_messages/mutations.py sets the number; every run uses the same messages. A mutated message that still
decodes must survive the store and a round trip as well.
"""

from collections import Counter
from collections.abc import Sequence

import pytest

from bootstrap.modes import topology
from broker.amqp_properties import read_wire, write_header
from broker.codec import DeadReason, Envelope, Undecodable, decode, encode, pack, unpack
from broker.transport import Outgoing, Wire
from store.document import Record
from store.memory import MemoryDatabase, MemoryStore
from store.protocol import Changes, OutboxRow, Reader
from tests.support.malformed_messages.mutations import MUTATIONS, TYPES, Mutator, good_wires
from tests.support.system import MODES

#: The reasons of the decoder; the others are set by later steps.
OF_THE_DECODER = set(DeadReason) - {
    *(DeadReason.MISROUTED, DeadReason.PROTOCOL_VIOLATION, DeadReason.POISON_MESSAGE, DeadReason.ATTEMPTS_EXHAUSTED)
}
#: No mutation makes a body that large; the corpus has such messages.
TOO_LARGE = {DeadReason.TOO_LARGE}


def refusal(wire: Wire) -> Envelope | Undecodable:
    """Decode a message, and return the envelope or the refusal. Any other error fails the test."""
    try:
        return decode(wire, TYPES)
    except Undecodable as refused:
        return refused


def judged(wires: Sequence[Wire]) -> tuple[list[Envelope], Counter[DeadReason]]:
    """Return the envelopes, and the number of refusals for each reason."""
    verdicts = [refusal(wire) for wire in wires]
    details = [str(verdict).encode() for verdict in verdicts if isinstance(verdict, Undecodable)]
    assert all(0 < len(detail) <= 1_600 for detail in details), "a reason must be text that fits into a header"
    return (
        [verdict for verdict in verdicts if isinstance(verdict, Envelope)],
        Counter(verdict.reason for verdict in verdicts if isinstance(verdict, Undecodable)),
    )


async def survives(store: MemoryStore, number: int, envelope: Envelope) -> None:
    """Commit a message as a worker does (document, inbox key, outbox row), and read everything back."""
    body = envelope.message.model_dump(mode="json")
    again = encode(envelope.message, message_id=envelope.message_id, now=1.0, app_id="order", origin=envelope.origin)
    assert decode(again, TYPES) == Envelope(envelope.message, envelope.message_id, envelope.origin)
    outgoing = Outgoing(topology(MODES[0]).address_of(type(envelope.message)), again)
    record, row = Record("kept", str(number), 1, body), OutboxRow(str(number), 1.0, pack(outgoing))

    async def keep(_: Reader) -> tuple[Changes, None]:
        return Changes([record], [f"order:{number}:{envelope.message_id}"], [row]), None

    await store.transact(keep)
    assert await store.transact(lambda reader: loaded(reader, record)) == record
    assert unpack(row.payload) == outgoing
    await store.delete_published([row.message_id])


async def loaded(reader: Reader, record: Record) -> tuple[Changes, Record | None]:
    return Changes(), (await reader.load([record.key])).get(record.key)


async def test_mutated_message_is_refused_or_survives_a_round_trip() -> None:
    mutator, store = Mutator(1, good_wires(TYPES)), MemoryStore(MemoryDatabase())
    read, refused = judged([mutator.wire() for _ in range(MUTATIONS)])
    for number, envelope in enumerate(read):
        await survives(store, number, envelope)
    assert len(read) > MUTATIONS / 100, "too few still decode to test the later checks"
    assert set(refused) == OF_THE_DECODER - TOO_LARGE, f"not every check was reached: {refused}"


@pytest.mark.parametrize("seed", [2])
def test_same_seed_gives_the_same_messages(seed: int) -> None:
    first, second, other = (Mutator(number, good_wires(TYPES)) for number in (seed, seed, seed + 1))
    wires = [first.wire() for _ in range(50)]
    # Compared by repr, because NaN is not equal to itself.
    assert repr(wires) == repr([second.wire() for _ in range(50)]) != repr([other.wire() for _ in range(50)])


def test_mutations_start_from_good_messages_of_every_type() -> None:
    read, refused = judged(good_wires(TYPES))
    assert {type(envelope.message).type_name for envelope in read} == set(TYPES)
    assert not refused


def test_mutated_message_is_judged_alike_before_and_after_the_wire() -> None:
    """A refused message stays refused after it was written as AMQP and read back."""
    mutator = Mutator(3, good_wires(TYPES))
    for _ in range(max(500, MUTATIONS // 10)):
        wire = mutator.wire()
        before = refusal(wire)
        after = refusal(read_wire(write_header(wire, None), wire.body))
        assert after == before if isinstance(before, Envelope) else isinstance(after, Undecodable)
