"""The corpus of bad messages: each is a good message spoilt in one way, with the reason that its dead letter must have.

Data only. `GOOD`, at the end, holds unusual but valid messages.
"""

import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

from broker.codec import MAX_BODY_BYTES, DeadReason
from broker.transport import Wire

Spoil = Callable[[Wire], Wire]

ANOTHER_ORDER = "019b0000-0000-7000-8000-00000000beef"
AN_UPPER_CASE_ID = "019B0000-0000-7000-8000-00000000BEEF"


@dataclass(frozen=True)
class Bad:
    """One bad message. `of`: made from a forward message (with an order's details) or a backward one (with a reason)."""

    name: str
    reason: DeadReason
    spoil: Spoil
    of: Literal["forward", "backward"] = "forward"


# --- ways to spoil --------------------------------------------------------------------------------------------------------


def prop(**properties: Any) -> Spoil:
    """Replace AMQP properties."""
    return lambda wire: replace(wire, **properties)


def header(**headers: Any) -> Spoil:
    """Replace or add headers."""
    return lambda wire: replace(wire, headers={**wire.headers, **headers})


def no_header(name: str) -> Spoil:
    return lambda wire: replace(wire, headers={key: value for key, value in wire.headers.items() if key != name})


def body(data: bytes) -> Spoil:
    """Replace the whole body."""
    return lambda wire: replace(wire, body=data)


def recoded(recode: Callable[[bytes], bytes]) -> Spoil:
    """Transform the body."""
    return lambda wire: replace(wire, body=recode(wire.body))


def at(path: str, value: Any) -> Spoil:
    """Set the value at a path such as `details.lines.0.quantity`; a missing field is added."""
    return lambda wire: replace(wire, body=json.dumps(_set(json.loads(wire.body), path, value)).encode())


def raw(path: str, text: str) -> Spoil:
    """Like `at`, for values that Python's json does not write: sets the text itself."""

    def spoil(wire: Wire) -> Wire:
        marked = json.dumps(_set(json.loads(wire.body), path, "@@here@@"))
        return replace(wire, body=marked.replace('"@@here@@"', text).encode())

    return spoil


def without(path: str) -> Spoil:
    """Remove a field."""

    def spoil(wire: Wire) -> Wire:
        data = json.loads(wire.body)
        *parents, last = path.split(".")
        del _walk(data, parents)[last]
        return replace(wire, body=json.dumps(data).encode())

    return spoil


def both(*spoils: Spoil) -> Spoil:
    def spoil(wire: Wire) -> Wire:
        for each in spoils:
            wire = each(wire)
        return wire

    return spoil


def _walk(data: Any, parents: list[str]) -> Any:
    for part in parents:
        data = data[int(part)] if isinstance(data, list) else data[part]
    return data


def _set(data: Any, path: str, value: Any) -> Any:
    *parents, last = path.split(".")
    parent = _walk(data, parents)
    parent[int(last) if isinstance(parent, list) else last] = value
    return data


def nested(depth: int) -> dict[str, Any]:
    table: dict[str, Any] = {"deepest": True}
    for _ in range(depth):
        table = {"deeper": table}
    return table


def padded(size: int) -> Spoil:
    """Pad the body with spaces to `size` bytes."""
    return recoded(lambda data: data + b" " * (size - len(data)))


SKU, QUANTITY, NAME = "details.lines.0.sku", "details.lines.0.quantity", "details.address.name"
LINE = {"sku": "book", "quantity": 1}
MANY_HEADERS = {f"x-junk-{number}": "junk" * 5 for number in range(1_000)}
R = DeadReason

CORPUS: tuple[Bad, ...] = (
    # --- bytes that are no JSON -------------------------------------------------------------------------------------------
    Bad("an empty body", R.NOT_JSON, body(b"")),
    Bad("only blanks", R.NOT_JSON, body(b"   \n")),
    Bad("plain text", R.NOT_JSON, body(b"please reserve two books")),
    Bad("random bytes", R.NOT_JSON, body(bytes(range(256)))),
    Bad("JSON cut off", R.NOT_JSON, recoded(lambda data: data[: len(data) // 2])),
    Bad("JSON twice", R.NOT_JSON, recoded(lambda data: data + data)),
    Bad("single quotes", R.NOT_JSON, recoded(lambda data: data.replace(b'"', b"'"))),
    Bad("Latin-1", R.NOT_JSON, both(at(NAME, "NAME"), recoded(lambda data: data.replace(b"NAME", b"M\xfcller")))),
    Bad("UTF-16", R.NOT_JSON, recoded(lambda data: data.decode().encode("utf-16"))),
    Bad("UTF-32", R.NOT_JSON, recoded(lambda data: data.decode().encode("utf-32"))),
    Bad("a byte order mark", R.NOT_JSON, recoded(lambda data: b"\xef\xbb\xbf" + data)),
    Bad("overlong UTF-8", R.NOT_JSON, both(at(NAME, "NAME"), recoded(lambda data: data.replace(b"NAME", b"\xc0\xaf")))),
    Bad("a lone surrogate", R.NOT_JSON, raw(NAME, '"\\ud800"')),
    Bad("a lone surrogate in a key", R.NOT_JSON, recoded(lambda data: data.replace(b'"order_id"', b'"\\udc00"'))),
    Bad("a surrogate in raw bytes", R.NOT_JSON, both(at(NAME, "NAME"), recoded(lambda d: d.replace(b"NAME", b"\xed\xa0\x80")))),
    Bad("a comment", R.NOT_JSON, recoded(lambda data: b"/* order */" + data)),
    Bad("a number with a leading zero", R.NOT_JSON, raw(QUANTITY, "01")),
    Bad("a number with a plus", R.NOT_JSON, raw(QUANTITY, "+1")),
    Bad("a hexadecimal number", R.NOT_JSON, raw(QUANTITY, "0x1")),
    Bad("a line break in a string", R.NOT_JSON, raw(NAME, '"Ada\nLovelace"')),
    Bad("Python's words", R.NOT_JSON, raw(QUANTITY, "None")),
    Bad("XML", R.NOT_JSON, body(b"<?xml version='1.0'?><!DOCTYPE o [<!ENTITY e SYSTEM 'file:///etc/passwd'>]><o>&e;</o>")),
    Bad("a pickle", R.NOT_JSON, body(b"\x80\x04\x95\x00\x00\x00\x00\x00\x00\x00\x00cos\nsystem\n(S'true'\ntR.")),
    Bad("a NUL byte", R.NOT_JSON, recoded(lambda data: data + b"\x00")),
    Bad("arrays nested 20,000 deep", R.NOT_JSON, body(b"[" * 20_000 + b"]" * 20_000)),
    Bad("objects nested 10,000 deep", R.NOT_JSON, body(b'{"a":' * 10_000 + b"1" + b"}" * 10_000)),
    Bad("an unknown escape", R.NOT_JSON, raw(NAME, '"\\x41"')),
    Bad("a trailing comma", R.NOT_JSON, recoded(lambda data: data[:-1] + b",}")),
    Bad("gzip without saying so", R.NOT_JSON, recoded(gzip.compress)),
    # --- too large --------------------------------------------------------------------------------------------------------
    Bad("a byte too large", R.TOO_LARGE, padded(MAX_BODY_BYTES + 1)),
    Bad("65 KiB", R.TOO_LARGE, body(b"x" * 65 * 1024)),
    Bad("half a megabyte", R.TOO_LARGE, body(b"\x00" * 512 * 1024)),
    # --- JSON, but not this message ---------------------------------------------------------------------------------------
    Bad("an array", R.WRONG_SCHEMA, body(b"[]")),
    Bad("a string", R.WRONG_SCHEMA, body(b'"order"')),
    Bad("null", R.WRONG_SCHEMA, body(b"null")),
    Bad("an empty object", R.WRONG_SCHEMA, body(b"{}")),
    Bad("no order id", R.WRONG_SCHEMA, without("order_id")),
    Bad("an order id in upper case", R.WRONG_SCHEMA, at("order_id", AN_UPPER_CASE_ID)),
    Bad("an order id with a line break", R.WRONG_SCHEMA, at("order_id", ANOTHER_ORDER + "\n")),
    Bad("an order id of null", R.WRONG_SCHEMA, at("order_id", None)),
    Bad("an order id that is a number", R.WRONG_SCHEMA, at("order_id", 4711)),
    Bad("an order id that is a query", R.WRONG_SCHEMA, at("order_id", {"$ne": None})),
    Bad("an order id in braces", R.WRONG_SCHEMA, at("order_id", "{" + ANOTHER_ORDER + "}")),
    Bad("an order id with Arabic digits", R.WRONG_SCHEMA, at("order_id", ANOTHER_ORDER.replace("0", "\u0660"))),
    Bad("no details", R.WRONG_SCHEMA, without("details")),
    Bad("details of null", R.WRONG_SCHEMA, at("details", None)),
    Bad("a field too many", R.WRONG_SCHEMA, at("priority", "high")),
    Bad("a field too many, deep down", R.WRONG_SCHEMA, at("details.lines.0.price", 0)),
    Bad("a field with a dollar", R.WRONG_SCHEMA, at("details.$where", "sleep(1000)")),
    Bad("a field with a NUL", R.WRONG_SCHEMA, recoded(lambda data: data[:-1] + b',"a\\u0000b":1}')),
    Bad("no lines", R.WRONG_SCHEMA, without("details.lines")),
    Bad("empty lines", R.WRONG_SCHEMA, at("details.lines", [])),
    Bad("51 lines", R.WRONG_SCHEMA, at("details.lines", [LINE] * 51)),
    Bad("lines of null", R.WRONG_SCHEMA, at("details.lines", None)),
    Bad("lines that are an object", R.WRONG_SCHEMA, at("details.lines", {"0": LINE})),
    Bad("a quantity of 0", R.WRONG_SCHEMA, at(QUANTITY, 0)),
    Bad("a quantity of -1", R.WRONG_SCHEMA, at(QUANTITY, -1)),
    Bad("a quantity of 1.5", R.WRONG_SCHEMA, at(QUANTITY, 1.5)),
    Bad("a quantity of 1.0", R.WRONG_SCHEMA, at(QUANTITY, 1.0)),
    Bad("a quantity of true", R.WRONG_SCHEMA, at(QUANTITY, True)),
    Bad("a quantity in quotes", R.WRONG_SCHEMA, at(QUANTITY, "1")),
    Bad("a quantity beyond its bound", R.WRONG_SCHEMA, at(QUANTITY, 10**6 + 1)),
    Bad("a quantity of 2^70", R.WRONG_SCHEMA, at(QUANTITY, 2**70)),
    Bad("a total of 2^70", R.WRONG_SCHEMA, at("details.total_cents", 2**70)),
    Bad("a total of 2^63", R.WRONG_SCHEMA, at("details.total_cents", 2**63)),
    Bad("a total with 4,000 digits", R.WRONG_SCHEMA, raw("details.total_cents", "9" * 4_000)),
    Bad("a total below zero", R.WRONG_SCHEMA, at("details.total_cents", -1)),
    Bad("a total of NaN", R.WRONG_SCHEMA, raw("details.total_cents", "NaN")),
    Bad("a total of Infinity", R.WRONG_SCHEMA, raw("details.total_cents", "Infinity")),
    Bad("a total of 1e400", R.WRONG_SCHEMA, raw("details.total_cents", "1e400")),
    Bad("a currency in lower case", R.WRONG_SCHEMA, at("details.currency", "eur")),
    Bad("a currency of four letters", R.WRONG_SCHEMA, at("details.currency", "EURO")),
    Bad("a currency in Cyrillic", R.WRONG_SCHEMA, at("details.currency", "\u0415UR")),
    Bad("a SKU with a dot", R.WRONG_SCHEMA, at(SKU, "book.2")),
    Bad("a SKU with a dollar", R.WRONG_SCHEMA, at(SKU, "$book")),
    Bad("a SKU with a NUL", R.WRONG_SCHEMA, at(SKU, "book\x00")),
    Bad("a SKU with a line break", R.WRONG_SCHEMA, at(SKU, "book\n")),
    Bad("an empty SKU", R.WRONG_SCHEMA, at(SKU, "")),
    Bad("a SKU of 65 letters", R.WRONG_SCHEMA, at(SKU, "b" * 65)),
    Bad("a SKU that is a list", R.WRONG_SCHEMA, at(SKU, ["book"])),
    Bad("no address", R.WRONG_SCHEMA, without("details.address")),
    Bad("a name with a NUL", R.WRONG_SCHEMA, at(NAME, "Ada\x00Lovelace")),
    Bad("an empty name", R.WRONG_SCHEMA, at(NAME, "")),
    Bad("a name of 201 letters", R.WRONG_SCHEMA, at(NAME, "a" * 201)),
    Bad("a country in lower case", R.WRONG_SCHEMA, at("details.address.country", "gb")),
    Bad("a postcode that is a number", R.WRONG_SCHEMA, at("details.address.postcode", 12345)),
    # --- properties -------------------------------------------------------------------------------------------------------
    Bad("no message id", R.MISSING_PROPERTY, prop(message_id=None)),
    Bad("an empty message id", R.MISSING_PROPERTY, prop(message_id="")),
    Bad("a message id that is no UUID", R.MISSING_PROPERTY, prop(message_id="first-order")),
    Bad("a message id in upper case", R.MISSING_PROPERTY, prop(message_id=AN_UPPER_CASE_ID)),
    Bad("no correlation id", R.MISSING_PROPERTY, prop(correlation_id=None)),
    Bad("a correlation id that is no UUID", R.MISSING_PROPERTY, prop(correlation_id="../../etc/passwd")),
    Bad("another order's correlation id", R.WRONG_CORRELATION, prop(correlation_id=ANOTHER_ORDER)),
    Bad("another order in the body", R.WRONG_CORRELATION, at("order_id", ANOTHER_ORDER)),
    Bad("no type", R.MISSING_PROPERTY, prop(type=None)),
    Bad("an empty type", R.MISSING_PROPERTY, prop(type="")),
    Bad("an unknown type", R.UNKNOWN_TYPE, prop(type="inventory.BurnStock")),
    Bad("a type without its service", R.UNKNOWN_TYPE, prop(type="ReserveStock")),
    Bad("the type of a class path", R.UNKNOWN_TYPE, prop(type="services.inventory.messages.ReserveStock")),
    Bad("a type of 250 letters", R.UNKNOWN_TYPE, prop(type="a" * 250)),
    Bad("a type of a foreign service", R.UNKNOWN_TYPE, prop(type="payroll.PaySalary")),
    Bad("a local input of payment, its timer", R.UNKNOWN_TYPE, prop(type="payment.PollGateway")),
    Bad("a local input of payment, an answer", R.UNKNOWN_TYPE, prop(type="payment.GatewayAnswered")),
    Bad("a local input of the order service", R.UNKNOWN_TYPE, prop(type="order.DeadlinePassed")),
    Bad("no content type", R.WRONG_CONTENT_TYPE, prop(content_type=None)),
    Bad("plain text by its content type", R.WRONG_CONTENT_TYPE, prop(content_type="text/plain")),
    Bad("MessagePack by its content type", R.WRONG_CONTENT_TYPE, prop(content_type="application/msgpack")),
    Bad("another character set", R.WRONG_CONTENT_TYPE, prop(content_type="application/json; charset=utf-16")),
    Bad("gzip", R.WRONG_CONTENT_TYPE, both(prop(content_encoding="gzip"), recoded(gzip.compress))),
    Bad("a gzip bomb", R.WRONG_CONTENT_TYPE, both(prop(content_encoding="gzip"), body(gzip.compress(b" " * 10_000_000)))),
    Bad("deflate", R.WRONG_CONTENT_TYPE, prop(content_encoding="deflate")),
    # --- headers ----------------------------------------------------------------------------------------------------------
    Bad("no version", R.MISSING_PROPERTY, no_header("version")),
    Bad("a version of null", R.MISSING_PROPERTY, header(version=None)),
    Bad("version 0", R.WRONG_VERSION, header(version=0)),
    Bad("version 2", R.WRONG_VERSION, header(version=2)),
    Bad("version -1", R.WRONG_VERSION, header(version=-1)),
    Bad('version "1"', R.WRONG_VERSION, header(version="1")),
    Bad("version true", R.WRONG_VERSION, header(version=True)),
    Bad("version 1.0", R.WRONG_VERSION, header(version=1.0)),
    Bad("a version that is a table", R.WRONG_VERSION, header(version={"major": 1})),
    Bad("a traceparent of the wrong shape", R.BAD_HEADER, header(traceparent="00-abc-def-01")),
    Bad("a traceparent that is a number", R.BAD_HEADER, header(traceparent=1)),
    Bad("an injected failure of the wrong shape", R.BAD_HEADER, header(injected="payment declined")),
    Bad("nine injected failures", R.BAD_HEADER, header(injected=",".join(["payment:declined"] * 9))),
    Bad("an injected failure of 100 letters", R.BAD_HEADER, header(injected="payment:" + "a" * 100)),
    Bad("an injected failure that is a list", R.BAD_HEADER, header(injected=["payment:declined"])),
    Bad("a causation id that is no UUID", R.BAD_HEADER, header(causation_id="because")),
    Bad("a causation id that is a table", R.BAD_HEADER, header(causation_id={"because": 1})),
    Bad("attempt 1.0", R.BAD_HEADER, header(attempt=1.0)),
    Bad("attempt 0", R.BAD_HEADER, header(attempt=0)),
    Bad("attempt -5", R.BAD_HEADER, header(attempt=-5)),
    Bad("attempt one million", R.BAD_HEADER, header(attempt=1_000_000)),
    Bad('attempt "2"', R.BAD_HEADER, header(attempt="2")),
    Bad("attempt true", R.BAD_HEADER, header(attempt=True)),
    # --- unusual headers, with something that makes the message bad ---------------------------------------------------------
    Bad("a thousand headers", R.UNKNOWN_TYPE, both(header(**MANY_HEADERS), prop(type="x.Y"))),
    Bad("headers nested 10 deep", R.UNKNOWN_TYPE, both(header(nested=nested(10)), prop(type="x.Y"))),
    Bad("headers nested 50 deep", R.MISSING_PROPERTY, both(header(nested=nested(50)), prop(message_id=None))),
    Bad("a header of 60,000 letters", R.UNKNOWN_TYPE, both(header(long="a" * 60_000), prop(type="x.Y"))),
    Bad(
        "headers of every kind",
        R.UNKNOWN_TYPE,
        both(header(a=None, b=True, c=-1, d=1.5, e=b"\x00\xff", f=[1, "x"]), prop(type="x.Y")),
    ),
    Bad("a dead letter's own headers", R.UNKNOWN_TYPE, both(header(dead_reason="none", attempts="many"), prop(type="x.Y"))),
    Bad(
        "a history that RabbitMQ wrote",
        R.UNKNOWN_TYPE,
        both(header(**{"x-death": [{"queue": "q", "count": 3}]}), prop(type="x.Y")),
    ),
    Bad("nothing at all", R.MISSING_PROPERTY, lambda _: Wire(body=b"")),
    # --- backward messages: they carry a reason instead of details ----------------------------------------------------------
    Bad("no reason", R.WRONG_SCHEMA, without("reason"), "backward"),
    Bad("a reason of null", R.WRONG_SCHEMA, at("reason", None), "backward"),
    Bad("an unknown reason", R.WRONG_SCHEMA, at("reason", "bad_weather"), "backward"),
    Bad("a reason in upper case", R.WRONG_SCHEMA, at("reason", "WITHDRAWN"), "backward"),
    Bad("a reason that is a list", R.WRONG_SCHEMA, at("reason", ["withdrawn"]), "backward"),
    Bad("a reason that is a query", R.WRONG_SCHEMA, at("reason", {"$gt": ""}), "backward"),
    Bad("a reason with a NUL", R.WRONG_SCHEMA, at("reason", "withdrawn\x00"), "backward"),
    Bad("a reason that is a number", R.WRONG_SCHEMA, at("reason", 7), "backward"),
    Bad("details where a reason belongs", R.WRONG_SCHEMA, at("details", {"lines": [LINE]}), "backward"),
    Bad("a rollback of another order", R.WRONG_CORRELATION, at("order_id", ANOTHER_ORDER), "backward"),
    Bad("a rollback cut off", R.NOT_JSON, recoded(lambda data: data[:-3]), "backward"),
    Bad("a rollback of version 2", R.WRONG_VERSION, header(version=2), "backward"),
)

#: Unusual but valid messages: they are handled.
GOOD: dict[str, Spoil] = {
    "as large as allowed": padded(MAX_BODY_BYTES),
    "blanks and line breaks in the JSON": recoded(lambda data: json.dumps(json.loads(data), indent=8).encode()),
    "all letters escaped": recoded(lambda data: data.replace(b"Ada", b"\\u0041\\u0064\\u0061")),
    "a name in another script": at(NAME, "愛達·勒芙蕾絲 🧵"),
    "fifty lines": at("details.lines", [LINE] * 50),
    "the largest total": at("details.total_cents", 10**12),
    "content encoding utf-8": prop(content_encoding="utf-8"),
    "no app id and no timestamp": prop(app_id=None, timestamp=None),
    "a thousand headers": header(**MANY_HEADERS),
    "headers nested 10 deep": header(nested=nested(10)),
    "a second attempt": header(attempt=2),
    "a field twice, alike": recoded(lambda data: data[:-1] + b"," + data[1 : data.index(b",")] + b"}"),
    "a trace": header(traceparent="00-" + "ab" * 16 + "-" + "cd" * 8 + "-01"),
}
