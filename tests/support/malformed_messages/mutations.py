"""Messages spoilt at random: a good one, and one to four things done to it that a broken or a hostile sender might do.

Seeded, so every run sees the same ones. A mutator of our own and not hypothesis, because it makes a
message in some ten microseconds where hypothesis takes a millisecond. Structured cases that want shrinking stay with hypothesis.
"""

import os
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from api.sample_orders import sample_order
from bootstrap.modes import roles
from broker.codec import Origin, encode
from broker.message import Message
from broker.transport import Wire
from services.order.messages import WithdrawOrder
from services.vocabulary import Line, Reason
from tests.support.system import MODES

#: Every message type that any worker of any mode accepts.
TYPES = {kind.type_name: kind for mode in MODES for role in roles(mode).values() for kind in role.accepts}

#: How many mutated messages a test tries: 2,000, or what SAGA_MUTATIONS says. In CI and in the proof it is 100,000, some 20 s.
MUTATIONS = int(os.environ.get("SAGA_MUTATIONS", "2000"))

AN_ID, ANOTHER_ID = "019b0000-0000-7000-8000-000000000001", "019b0000-0000-7000-8000-00000000beef"
#: A value for each field that any message of the project has.
FIELDS: Mapping[str, Any] = {
    "order_id": AN_ID,
    "details": sample_order([Line(sku="book", quantity=1), Line(sku="lamp", quantity=20)]),
    "reason": Reason.OUT_OF_STOCK,
    "step": "ReleaseStock",
    "error": "TimeoutError: no answer",
}

#: A value in JSON, with its strings, numbers and words; or a mark between two.
TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|-?\d[\d.eE+-]*|true|false|null|[\[\]{}:,]')
ODD_JSON: Sequence[bytes] = (
    *(b"null", b"true", b"false", b"0", b"-0", b"1", b"-1", b"1.0", b"1.5", b"1e3", b"1e400", b"01", b"+1", b".5", b"0x10"),
    *(b"NaN", b"Infinity", b"9" * 400, str(2**63).encode(), str(2**64).encode(), str(2**70).encode()),
    *(b'""', b'"\\u0000"', b'"\\ud800"', b'"\\udc00\\ud800"', b'"\\x41"', b'"\xff\xfe"', b'"\xed\xa0\x80"', b'"a\nb"', b'"\x7f"'),
    *(b'"' + b"a" * 300 + b'"', b'"book"', b'"1"', b'"EUR"', b'"payment_declined"', b'"$where"', b'"order_id"', b'"details"'),
    *(b'"' + AN_ID.encode() + b'"', b'"' + ANOTHER_ID.encode() + b'"', '"愛達·勒芙蕾絲 🧵"'.encode(), "\u202e\u200b".encode()),
    *(b"[]", b"{}", b"[[]]", b'{"$ne":null}', b'{"":{}}', b"[" * 300, b"{", b"}", b"]", b",", b":", b'"', b"//x\n", b" ", b""),
)
ODD_BYTES: Sequence[bytes] = (
    *(b"\x00", b"\xff", b"\xc0\xaf", b"\xef\xbb\xbf", b"\xf4\x90\x80\x80", b"\x1b[2J"),
    *(b"\\", b'"', b"{", b"\n"),
)
ODD_TEXT: Sequence[Any] = (
    *(None, "", " ", "a", "a" * 255, "\x00", "\ud800", "\ufffd", "1"),
    *(AN_ID, ANOTHER_ID, AN_ID.upper(), AN_ID + "\n", "{" + AN_ID + "}"),
    *("application/json", "application/json;charset=utf-8", "Application/JSON", "gzip", "utf-8", "UTF-8", "order.PlaceOrder"),
    *("inventory.ReserveStock", "payment.PollGateway", "order.placeorder", "*", "#", 0, True, b"bytes"),
)
ODD_VALUES: Sequence[Any] = (
    *(None, True, False, 0, 1, 2, 3, 12, 1_000, 1_001, -1, 2**31, 2**63 - 1, -(2**63), 0.0, 1.0, float("nan"), float("inf")),
    *("", "1", "a" * 5_000, "payment:declined", "payment:declined,delivery:crash", "x", AN_ID, ANOTHER_ID, AN_ID.upper()),
    *("00-" + "ab" * 16 + "-" + "cd" * 8 + "-01", b"", b"\x00\xff", [], [1, "x", None], {}, {"deep": {"er": [{"x": b"\xff"}]}}),
)
HEADERS = ("version", "attempt", "causation_id", "traceparent", "injected", "dead_reason", "x-death", "", "x" * 255)
PROPERTIES = ("message_id", "correlation_id", "type", "app_id", "content_type", "content_encoding")


def good_wires(kinds: Mapping[str, type[Message]]) -> list[Wire]:
    """One good message of each kind."""
    return [_good(kind) for _, kind in sorted(kinds.items())]


def _good(kind: type[Message]) -> Wire:
    reason = {"reason": Reason.WITHDRAWN} if kind is WithdrawOrder else {}
    fields = {**FIELDS, **reason}
    message = kind(**{name: fields[name] for name in kind.model_fields})
    return encode(message, message_id=ANOTHER_ID, now=1_767_225_600.0, app_id="order", origin=Origin(causation_id=AN_ID))


class Mutator:
    """An endless stream of spoilt messages, the same for the same seed."""

    def __init__(self, seed: int, good: Sequence[Wire]) -> None:
        self._chance = random.Random(seed)
        self._good = good
        self._allowed_routes: Sequence[Callable[[Wire], Wire]] = (
            self._flip,
            self._cut,
            self._double,
            self._insert,
            self._splice,
            *[self._retoken] * 4,
            *[self._property] * 2,
            *[self._header] * 3,
            self._no_header,
        )

    def wire(self) -> Wire:
        wire = self._chance.choice(self._good)
        for _ in range(self._chance.randint(1, 4)):
            wire = self._chance.choice(self._allowed_routes)(wire)
        return wire

    def _flip(self, wire: Wire) -> Wire:
        body = bytearray(wire.body)
        for _ in range(self._chance.randint(1, 3) if body else 0):
            body[self._chance.randrange(len(body))] ^= 1 << self._chance.randrange(8)
        return replace(wire, body=bytes(body))

    def _span(self, body: bytes) -> tuple[int, int]:
        start = self._chance.randint(0, len(body))
        return start, min(len(body), start + self._chance.choice((1, 2, 7, 40, 1_000)))

    def _cut(self, wire: Wire) -> Wire:
        start, end = self._span(wire.body)
        return replace(wire, body=wire.body[:start] + wire.body[end:])

    def _double(self, wire: Wire) -> Wire:
        start, end = self._span(wire.body)
        return replace(wire, body=wire.body[:end] + wire.body[start:])

    def _insert(self, wire: Wire) -> Wire:
        start, _ = self._span(wire.body)
        return replace(wire, body=wire.body[:start] + self._chance.choice(ODD_BYTES) + wire.body[start:])

    def _splice(self, wire: Wire) -> Wire:
        """The beginning of this body and the end of another."""
        other = self._chance.choice(self._good).body
        return replace(wire, body=wire.body[: self._span(wire.body)[0]] + other[self._span(other)[0] :])

    def _retoken(self, wire: Wire) -> Wire:
        """Another value, or another mark, in one place of the JSON."""
        tokens = list(TOKEN.finditer(wire.body))
        if not tokens:
            return wire
        start, end = self._chance.choice(tokens).span()
        return replace(wire, body=wire.body[:start] + self._chance.choice(ODD_JSON) + wire.body[end:])

    def _property(self, wire: Wire) -> Wire:
        return replace(wire, **{self._chance.choice(PROPERTIES): self._chance.choice(ODD_TEXT)})

    def _header(self, wire: Wire) -> Wire:
        return replace(wire, headers={**wire.headers, self._chance.choice(HEADERS): self._chance.choice(ODD_VALUES)})

    def _no_header(self, wire: Wire) -> Wire:
        name = self._chance.choice(HEADERS)
        return replace(wire, headers={key: value for key, value in wire.headers.items() if key != name})


class ByteMutator:
    """As above, for bytes whose layout is AMQP's: flipped, cut, doubled, spliced, and with lengths and letters that lie."""

    LENGTHS = tuple(length.to_bytes(4) for length in (0, 1, 4, 255, 2**16, 2**31 - 1, 2**31, 2**32 - 1))
    LETTERS = b"tbBsuIilLfdDSxATFVZ\x00\xff"

    def __init__(self, seed: int, good: Sequence[bytes]) -> None:
        self._chance = random.Random(seed)
        self._good = good

    def data(self, *, after: int = 0) -> bytes:
        """Spoilt bytes; the first `after` are left alone."""
        data = bytearray(self._chance.choice(self._good))
        for _ in range(self._chance.randint(1, 4)):
            at = self._chance.randrange(after, max(after + 1, len(data)))
            self._spoil(data, at)
        return bytes(data)

    def _spoil(self, data: bytearray, at: int) -> None:
        end = at + self._chance.choice((1, 2, 4, 30))
        match self._chance.randrange(7):
            case 0 if at < len(data):
                data[at] ^= 1 << self._chance.randrange(8)
            case 1:
                del data[at:end]
            case 2:
                data[at:at] = data[at:end]
            case 3:
                data[at:at] = self._chance.choice(ODD_BYTES)
            case 4:
                data[at : at + 4] = self._chance.choice(self.LENGTHS)
            case 5:
                data[at : at + 1] = bytes((self._chance.choice(self.LETTERS),))
            case _:
                data[at:] = self._chance.choice(self._good)[at:]
