"""AMQP content headers: properties are written, read back and never raise."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from broker.amqp_properties import BROKER_HEADERS, DEPTH_MAX, UNREADABLE_HEADER, read_body_size, read_wire, write_header
from broker.transport import Wire

short = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
whole = st.integers(-(2**63), 2**63 - 1)
scalars = st.none() | st.booleans() | whole | st.floats(allow_nan=False) | st.text(st.characters(exclude_categories=["Cs"]))
values = st.recursive(
    scalars | st.binary(), lambda inner: st.lists(inner, max_size=4) | st.dictionaries(short, inner, max_size=4), max_leaves=8
)
wires = st.builds(
    Wire,
    body=st.binary(max_size=100),
    message_id=st.none() | short,
    correlation_id=st.none() | short,
    type=st.none() | short,
    timestamp=st.none() | st.integers(0, 2**64 - 1),
    app_id=st.none() | short,
    content_type=st.none() | short,
    content_encoding=st.none() | short,
    headers=st.dictionaries(short.filter(lambda key: key not in BROKER_HEADERS), values, max_size=5),
)


@given(wires, st.none() | st.floats(0, 10))
def test_written_header_is_read_back_unchanged(wire: Wire, delay_s: float | None) -> None:
    header = write_header(wire, delay_s)
    assert read_body_size(header) == len(wire.body)
    assert read_wire(header, wire.body) == wire


@settings(max_examples=500)
@given(st.binary(max_size=200))
def test_reading_never_raises_and_its_result_can_be_written(data: bytes) -> None:
    wire = read_wire(data, b"body")
    assert wire.body == b"body"
    again = read_wire(write_header(wire, None), b"body")
    assert again.headers.keys() == wire.headers.keys() - BROKER_HEADERS


@settings(max_examples=500)
@given(st.binary(max_size=80))
def test_unreadable_headers_leave_other_properties_intact(table: bytes) -> None:
    flags = 0x2000 | 0x0080  # headers, message_id
    header = bytes(12) + flags.to_bytes(2) + len(table).to_bytes(4) + table + b"\x02id"
    wire = read_wire(header, b"")
    assert wire.message_id == "id"


def test_unknown_field_type_is_noted_in_the_headers() -> None:
    table = b"\x01kZ"
    wire = read_wire(bytes(12) + (0x2000).to_bytes(2) + len(table).to_bytes(4) + table, b"")
    assert wire.headers == {UNREADABLE_HEADER: "unknown field type 0x5a"}


def test_field_longer_than_its_table_is_not_read() -> None:
    table = b"\x01kS" + (1000).to_bytes(4) + b"v"
    wire = read_wire(bytes(12) + (0x2000).to_bytes(2) + len(table).to_bytes(4) + table, bytes(2000))
    assert wire.headers == {UNREADABLE_HEADER: "a field runs over the end of its table"}


def test_deeply_nested_tables_are_cut_off() -> None:
    deep: dict[str, Any] = {}
    for _ in range(DEPTH_MAX + 5):
        deep = {"k": deep}
    value = read_wire(write_header(Wire(b"", headers=deep), None), b"").headers
    for _ in range(DEPTH_MAX):
        value = value["k"]
    assert value == {"k": f"(nested deeper than {DEPTH_MAX})"}


def test_broker_headers_are_read_but_not_written() -> None:
    wire = Wire(b"", headers={"x-death": [{"count": 1}], "x-first-death-reason": "delivery_limit", "attempt": 2})
    assert read_wire(write_header(wire, None), b"").headers == {"attempt": 2}


def test_too_long_property_is_cut_at_a_character_boundary() -> None:
    wire = read_wire(write_header(Wire(b"", message_id="é" * 200), None), b"")
    assert wire.message_id == "é" * 127
