"""A message's properties to bytes and back, whatever they are."""

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
def test_what_is_written_is_read_as_it_was(wire: Wire, delay_s: float | None) -> None:
    header = write_header(wire, delay_s)
    assert read_body_size(header) == len(wire.body)
    assert read_wire(header, wire.body) == wire


@settings(max_examples=500)
@given(st.binary(max_size=200))
def test_reading_never_raises_and_what_was_read_can_be_written(data: bytes) -> None:
    wire = read_wire(data, b"body")
    assert wire.body == b"body"
    again = read_wire(write_header(wire, None), b"body")
    assert again.headers.keys() == wire.headers.keys() - BROKER_HEADERS


@settings(max_examples=500)
@given(st.binary(max_size=80))
def test_headers_that_cannot_be_read_cost_only_themselves(table: bytes) -> None:
    flags = 0x2000 | 0x0080  # headers, message_id
    header = bytes(12) + flags.to_bytes(2) + len(table).to_bytes(4) + table + b"\x02id"
    wire = read_wire(header, b"")
    assert wire.message_id == "id"


def test_a_table_of_an_unknown_type_says_so_in_the_headers() -> None:
    table = b"\x01kZ"
    wire = read_wire(bytes(12) + (0x2000).to_bytes(2) + len(table).to_bytes(4) + table, b"")
    assert wire.headers == {UNREADABLE_HEADER: "unknown field type 0x5a"}


def test_a_field_that_runs_over_its_table_is_not_followed() -> None:
    table = b"\x01kS" + (1000).to_bytes(4) + b"v"
    wire = read_wire(bytes(12) + (0x2000).to_bytes(2) + len(table).to_bytes(4) + table, bytes(2000))
    assert wire.headers == {UNREADABLE_HEADER: "a field runs over the end of its table"}


def test_tables_nested_too_deeply_are_cut_off() -> None:
    deep: dict[str, Any] = {}
    for _ in range(DEPTH_MAX + 5):
        deep = {"k": deep}
    value = read_wire(write_header(Wire(b"", headers=deep), None), b"").headers
    for _ in range(DEPTH_MAX):
        value = value["k"]
    assert value == {"k": f"(nested deeper than {DEPTH_MAX})"}


def test_the_brokers_own_headers_are_read_but_not_sent_back() -> None:
    wire = Wire(b"", headers={"x-death": [{"count": 1}], "x-first-death-reason": "delivery_limit", "attempt": 2})
    assert read_wire(write_header(wire, None), b"").headers == {"attempt": 2}


def test_a_property_that_grew_too_long_is_cut_at_a_whole_character() -> None:
    wire = read_wire(write_header(Wire(b"", message_id="é" * 200), None), b"")
    assert wire.message_id == "é" * 127
