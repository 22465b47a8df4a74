"""Reads and writes AMQP content headers: a message's properties and its table of headers.

Reading never raises: a property or header that cannot be read is left out, and the header `x-unreadable-headers` says why.
pamqp is not used here because it raises on text that is not UTF-8 and on far dates; the connection would be lost with it, again
at every redelivery. Everything that reading yields can be written, so that a dead letter carries it on; `without_foreign_headers`
drops headers that have grown too large for a frame. Reading and writing headers is most of what a worker spends on AMQP.
"""

import struct
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from broker.transport import Wire

#: AMQP's short strings have a length of one byte.
SHORT_MAX: Final = 255
#: Tables nested deeper than this are replaced by a note, to bound the recursion.
DEPTH_MAX: Final = 16
#: Added when the headers, or the properties around them, could not be read; its value says why.
UNREADABLE_HEADER: Final = "x-unreadable-headers"
#: Headers that belong to the broker and are never sent back to it. It would take `x-death` for the message's own history and drop
#: the message as a routing cycle: a requeued dead letter of the delivery limit was lost at its first retry. CC and BCC would
#: route a republished copy to their queues once more, in an endless loop.
BROKER_HEADERS: Final = frozenset(
    ["CC", "BCC", "x-death", "x-delivery-count", "x-acquired-count"]
    + [f"x-{which}-death-{what}" for which in ("first", "last") for what in ("exchange", "queue", "reason")]
)
#: Headers that this code base writes. When foreign headers leave no room in a frame, only these are kept.
OWN_HEADERS: Final = frozenset(
    ["version", "causation_id", "traceparent", "injected", "attempt", "dead_reason", "dead_detail", "attempts", "died_at"]
)
#: Maximum size of one of these headers, in bytes; a larger one was not written here and is dropped.
OWN_HEADER_MAX_BYTES: Final = 2048
#: Added when foreign headers were dropped; its value is how many.
DROPPED_HEADER: Final = "x-dropped-headers"

#: Class, weight, body size, property flags.
_HEAD: Final = struct.Struct(">HHQH")
_BASIC: Final = 60
# Property flags; the properties follow in this order.
_CONTENT_TYPE: Final = 0x8000
_CONTENT_ENCODING: Final = 0x4000
_HEADERS: Final = 0x2000
_DELIVERY_MODE: Final = 0x1000
_PRIORITY: Final = 0x0800
_CORRELATION_ID: Final = 0x0400
_REPLY_TO: Final = 0x0200
_EXPIRATION: Final = 0x0100
_MESSAGE_ID: Final = 0x0080
_TIMESTAMP: Final = 0x0040
_TYPE: Final = 0x0020
_USER_ID: Final = 0x0010
_APP_ID: Final = 0x0008
_LENGTH: Final = struct.Struct(">I")
_UNREADABLE_ERRORS: Final = (ValueError, IndexError, struct.error)


# --- writing --------------------------------------------------------------------------------------------------------------


def write_header(wire: Wire, delay_s: float | None) -> bytes:
    """Return the payload of a persistent message's content header frame; `delay_s` becomes the expiration."""
    # A loop over a table of properties would be shorter and half as fast.
    flags, parts = _DELIVERY_MODE, []
    if wire.content_type is not None:
        flags |= _CONTENT_TYPE
        parts.append(write_short(wire.content_type))
    if wire.content_encoding is not None:
        flags |= _CONTENT_ENCODING
        parts.append(write_short(wire.content_encoding))
    if wire.headers:
        flags |= _HEADERS
        parts.append(_write_table({key: value for key, value in wire.headers.items() if key not in BROKER_HEADERS}))
    parts.append(b"\x02")  # delivery mode: persistent
    if wire.correlation_id is not None:
        flags |= _CORRELATION_ID
        parts.append(write_short(wire.correlation_id))
    if delay_s is not None:
        flags |= _EXPIRATION
        parts.append(write_short(str(max(0, round(delay_s * 1000)))))
    if wire.message_id is not None:
        flags |= _MESSAGE_ID
        parts.append(write_short(wire.message_id))
    if wire.timestamp is not None:
        flags |= _TIMESTAMP
        parts.append(struct.pack(">Q", wire.timestamp & 0xFFFF_FFFF_FFFF_FFFF))
    if wire.type is not None:
        flags |= _TYPE
        parts.append(write_short(wire.type))
    if wire.app_id is not None:
        flags |= _APP_ID
        parts.append(write_short(wire.app_id))
    return _HEAD.pack(_BASIC, 0, len(wire.body), flags) + b"".join(parts)


def without_foreign_headers(wire: Wire) -> Wire:
    """Return the message with `OWN_HEADERS` only, and with the number of headers dropped."""
    kept = {
        key: value
        for key, value in wire.headers.items()
        if key in OWN_HEADERS and len(_write_field(value)) <= OWN_HEADER_MAX_BYTES
    }
    return replace(wire, headers={**kept, DROPPED_HEADER: len(wire.headers) - len(kept)})


def write_short(text: object) -> bytes:
    """Return an AMQP short string, cut to fit. Foreign text may have grown: each undecodable byte became three bytes."""
    data = str(text).encode("utf-8", "replace")
    if len(data) > SHORT_MAX:
        data = data[:SHORT_MAX].decode("utf-8", "ignore").encode()
    return bytes((len(data),)) + data


def _sized(data: bytes) -> bytes:
    return _LENGTH.pack(len(data)) + data


def _write_table(table: Mapping[Any, Any]) -> bytes:
    parts = []
    for key, value in table.items():
        parts.append(write_short(key))
        parts.append(_write_field(value))
    return _sized(b"".join(parts))


def _write_field(value: object) -> bytes:
    """Return one value with its type letter; values that AMQP has no type for are written as text."""
    write = _FIELD_WRITERS.get(type(value))
    return write(value) if write else _write_text(str(value))


def _write_text(value: str) -> bytes:
    return b"S" + _sized(value.encode("utf-8", "replace"))


def _write_integer(value: int) -> bytes:
    return struct.pack(">cq", b"l", value) if -(2**63) <= value < 2**63 else _write_text(str(value))


def _write_array(value: list[Any] | tuple[Any, ...]) -> bytes:
    return b"A" + _sized(b"".join([_write_field(item) for item in value]))


_FIELD_WRITERS: Final[dict[type, Callable[[Any], bytes]]] = {
    str: _write_text,
    bool: lambda value: b"t\x01" if value else b"t\x00",
    int: _write_integer,
    float: lambda value: struct.pack(">cd", b"d", value),
    bytes: lambda value: b"x" + _sized(value),
    list: _write_array,
    tuple: _write_array,
    dict: lambda value: b"F" + _write_table(value),
    type(None): lambda _: b"V",
}


# --- reading --------------------------------------------------------------------------------------------------------------


def read_body_size(header: bytes) -> int:
    return int.from_bytes(header[4:12])


def read_wire(header: bytes, body: bytes) -> Wire:
    """Return the message of a content header and its whole body. Never raises."""
    known: dict[str, Any] = {}
    try:
        _read_properties(header, known)
    except _UNREADABLE_ERRORS as error:
        known["headers"] = _unreadable(error)
    return Wire(body, **known)


def read_short(data: bytes, pos: int) -> tuple[str, int]:
    """Return a short string and the position after it; bytes that are not UTF-8 are replaced."""
    end = pos + 1 + data[pos]
    return data[pos + 1 : end].decode("utf-8", "replace"), end


def as_received(text: str | None) -> str | None:
    """Return a short string as the broker would send it back: written (cut to fit) and read again."""
    return None if text is None else read_short(write_short(text), 0)[0]


def _read_properties(data: bytes, known: dict[str, Any]) -> None:  # noqa: C901, PLR0912 - the same list
    """Fill `known` with the properties that are present, in the protocol's order."""
    flags = word = int.from_bytes(data[12:14])
    pos = 14
    while word & 1:  # further flag words, for properties that AMQP never defined
        word = int.from_bytes(data[pos : pos + 2])
        pos += 2
    if flags & _CONTENT_TYPE:
        known["content_type"], pos = read_short(data, pos)
    if flags & _CONTENT_ENCODING:
        known["content_encoding"], pos = read_short(data, pos)
    if flags & _HEADERS:
        known["headers"], pos = _read_headers(data, pos)
    if flags & _DELIVERY_MODE:
        pos += 1
    if flags & _PRIORITY:
        pos += 1
    if flags & _CORRELATION_ID:
        known["correlation_id"], pos = read_short(data, pos)
    if flags & _REPLY_TO:  # not used: replies never go to a queue that the sender names
        pos += 1 + data[pos]
    if flags & _EXPIRATION:
        pos += 1 + data[pos]
    if flags & _MESSAGE_ID:
        known["message_id"], pos = read_short(data, pos)
    if flags & _TIMESTAMP:
        known["timestamp"] = struct.unpack_from(">Q", data, pos)[0]
        pos += 8
    if flags & _TYPE:
        known["type"], pos = read_short(data, pos)
    if flags & _USER_ID:
        pos += 1 + data[pos]
    if flags & _APP_ID:
        known["app_id"], pos = read_short(data, pos)


def _read_headers(data: bytes, pos: int) -> tuple[dict[str, Any], int]:
    """Return the table of headers and the position after it; an unreadable table leaves the other properties intact."""
    start, end = _span(data, pos, len(data))
    try:
        return _read_table(data, start, end, 0), end
    except _UNREADABLE_ERRORS as error:
        return _unreadable(error), end


def _unreadable(error: Exception) -> dict[str, Any]:
    return {UNREADABLE_HEADER: str(error) or type(error).__name__}


def _span(data: bytes, pos: int, limit: int) -> tuple[int, int]:
    """Return start and end of a length-prefixed field. Raises ValueError when it ends after `limit`."""
    start = pos + 4
    end = start + int.from_bytes(data[pos:start])
    if end > limit:
        raise ValueError("a field runs over the end of its table")
    return start, end


def _read_table(data: bytes, pos: int, end: int, depth: int) -> dict[str, Any]:
    table: dict[str, Any] = {}
    while pos < end:
        key, pos = read_short(data, pos)
        table[key], pos = _read_field(data, pos, end, depth)
    return table


def _read_array(data: bytes, pos: int, end: int, depth: int) -> list[Any]:
    items = []
    while pos < end:
        item, pos = _read_field(data, pos, end, depth)
        items.append(item)
    return items


def _read_text(data: bytes, start: int, end: int, _: int) -> str | bytes:
    raw = data[start:end]
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw


def _read_field(data: bytes, pos: int, limit: int, depth: int) -> tuple[Any, int]:
    """Return one typed value and the position after it. Text that is not UTF-8 stays bytes; a time is seconds since the epoch."""
    letter = data[pos]
    fixed = _FIXED.get(letter)
    if fixed is not None:
        return fixed.unpack_from(data, pos + 1)[0], pos + 1 + fixed.size
    if letter == ord("V"):
        return None, pos + 1
    if letter == ord("D"):  # a decimal: scale and mantissa
        scale, mantissa = struct.unpack_from(">Bi", data, pos + 1)
        return mantissa / 10**scale, pos + 6
    read = _SIZED.get(letter)
    if read is None:
        msg = f"unknown field type {letter:#04x}"
        raise ValueError(msg)
    start, end = _span(data, pos + 1, limit)
    if depth == DEPTH_MAX:
        return f"(nested deeper than {DEPTH_MAX})", end
    return read(data, start, end, depth + 1), end


#: Types of a fixed size: booleans, integers, times and floats.
_FIXED: Final = {ord(letter): struct.Struct(f">{code}") for letter, code in zip("tbBsuIilLTfd", "?bBhHiIqqQfd", strict=True)}
#: Types that begin with their length.
_SIZED: Final[dict[int, Callable[[bytes, int, int, int], Any]]] = {
    ord("S"): _read_text,
    ord("x"): lambda data, start, end, _: data[start:end],
    ord("F"): _read_table,
    ord("A"): _read_array,
}
