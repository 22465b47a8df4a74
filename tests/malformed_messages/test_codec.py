"""The codec under arbitrary input: it raises only Undecodable, and encoded messages decode unchanged.

Property tests with hypothesis, derandomised: the same examples in every run.
"""

import dataclasses
import json
import string
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bootstrap.modes import Mode, roles, topology
from broker.codec import MAX_BODY_BYTES, Envelope, Origin, Undecodable, decode, encode, pack, unpack
from broker.message import Message
from broker.transport import Outgoing, Wire
from services.order.messages import PlaceOrder, WithdrawOrder
from services.vocabulary import MAX_CENTS, MAX_LINES, MAX_QUANTITY, DeliveryAddress, Line, OrderDetails, Reason
from tests.support.malformed_messages.mutations import MUTATIONS
from tests.support.system import MODES

#: An example takes about two milliseconds, so test_mutations.py does most of the work; SAGA_MUTATIONS raises both.
EXAMPLES = max(200, MUTATIONS // 100)
steady = settings(derandomize=True, database=None, deadline=None, max_examples=EXAMPLES, suppress_health_check=list(HealthCheck))

#: Every message type that any worker of any mode accepts.
TYPES = {kind.type_name: kind for mode in MODES for role in roles(mode).values() for kind in role.accepts}

ids = st.uuids().map(str)
words = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1, max_size=200)
skus = st.text(string.ascii_letters + string.digits, min_size=1, max_size=64)
lines = st.builds(Line, sku=skus, quantity=st.integers(1, MAX_QUANTITY))
addresses = st.builds(
    DeliveryAddress,
    name=words,
    street=words,
    postcode=st.text(string.ascii_uppercase + string.digits + " -", min_size=2, max_size=12),
    country=st.text(string.ascii_uppercase, min_size=2, max_size=2),
)
details = st.builds(
    OrderDetails,
    lines=st.lists(lines, min_size=1, max_size=MAX_LINES).map(tuple),
    total_cents=st.integers(0, MAX_CENTS),
    currency=st.text(string.ascii_uppercase, min_size=3, max_size=3),
    address=addresses,
)
texts = st.text(
    st.characters(min_codepoint=0x20, exclude_characters="\x7f", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=200
)
FIELDS: dict[str, st.SearchStrategy[Any]] = {"order_id": ids, "details": details, "reason": st.sampled_from(Reason)}
FIELDS |= {"step": texts, "error": texts}


@st.composite
def messages(draw: st.DrawFn) -> Message:
    """Draw any message type with any valid content."""
    kind = draw(st.sampled_from(sorted(TYPES.values(), key=lambda kind: kind.type_name)))
    if kind is WithdrawOrder:
        return WithdrawOrder(order_id=draw(ids), reason=draw(st.sampled_from([Reason.WITHDRAWN, Reason.DEADLINE])))
    return kind(**{name: draw(FIELDS[name]) for name in kind.model_fields})


hexadecimal = "0123456789abcdef"
origins = st.builds(
    Origin,
    causation_id=st.none() | ids,
    traceparent=st.none() | st.builds("00-{}-{}-01".format, *(st.text(hexadecimal, min_size=n, max_size=n) for n in (32, 16))),
    injected=st.none() | st.sampled_from(["payment:declined", "inventory:late,payment:pending", "order:crash"]),
)


def written(message: Message, message_id: str, origin: Origin) -> Wire:
    return encode(message, message_id=message_id, now=1_767_225_600.75, app_id="order", origin=origin)


@given(messages(), ids, origins)
@steady
def test_encoded_message_decodes_unchanged(message: Message, message_id: str, origin: Origin) -> None:
    wire = written(message, message_id, origin)
    assert decode(wire, TYPES) == Envelope(message, message_id, origin, attempt=1)
    assert len(wire.body) <= MAX_BODY_BYTES, "a valid message is never too large"


@given(messages(), ids, origins, st.sampled_from(MODES))
@steady
def test_packed_message_unpacks_unchanged(message: Message, message_id: str, origin: Origin, mode: Mode) -> None:
    outgoing = Outgoing(topology(mode).address_of(type(message)), written(message, message_id, origin))
    assert unpack(pack(outgoing)) == outgoing


# --- arbitrary input ------------------------------------------------------------------------------------------------------

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=50) | st.binary(max_size=50)
tables = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3)
)
OURS = ("version", "causation_id", "traceparent", "injected", "attempt")
headers = st.dictionaries(st.sampled_from(OURS) | st.text(max_size=9), tables, max_size=8)
odd_ids = ids | ids.map(str.upper) | st.text(max_size=40) | st.none() | st.integers()
wires = st.builds(
    Wire,
    body=st.binary(max_size=300),
    message_id=odd_ids,
    correlation_id=odd_ids,
    type=st.sampled_from(sorted(TYPES)) | st.text(max_size=20) | st.none() | st.integers(),
    timestamp=st.none() | st.integers(),
    app_id=st.none() | st.text(max_size=20),
    content_type=st.just("application/json") | st.text(max_size=20) | st.none(),
    content_encoding=st.none() | st.text(max_size=10),
    headers=headers,
)


def refused_or_read(wire: Wire) -> Envelope | None:
    """Return the envelope, or None if it was refused. Any other error fails the test."""
    try:
        return decode(wire, TYPES)
    except Undecodable as refused:
        why = str(refused)
    assert 0 < len(why) <= 400, "a reason must fit into a header"
    why.encode()  # and be valid text for a header
    return None


@given(wires)
@steady
def test_arbitrary_messages_raise_only_undecodable(wire: Wire) -> None:
    refused_or_read(wire)


@given(messages(), ids, headers)
@steady
def test_arbitrary_headers_are_refused_or_ignored(message: Message, message_id: str, odd: dict[str, Any]) -> None:
    wire = written(message, message_id, Origin())
    envelope = refused_or_read(dataclasses.replace(wire, headers={**wire.headers, **odd}))
    assert envelope is None or envelope.message == message


def good_wire() -> Wire:
    at_home = DeliveryAddress(name="Ada", street="1 Lane", postcode="AB1 2CD", country="GB")
    wanted = OrderDetails(lines=(Line(sku="book", quantity=1),), total_cents=1250, currency="EUR", address=at_home)
    order_id = "019b0000-0000-7000-8000-000000000001"
    return written(PlaceOrder(order_id=order_id, details=wanted), "019b0000-0000-7000-8000-000000000002", Origin())


@given(st.binary(max_size=400) | st.text(max_size=200).map(str.encode))
@steady
def test_arbitrary_body_is_refused(body: bytes) -> None:
    assert refused_or_read(dataclasses.replace(good_wire(), body=body)) is None


@given(st.data())
@steady
def test_changed_bytes_raise_only_undecodable(data: st.DataObject) -> None:
    body = bytearray(good_wire().body)
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    refused_or_read(dataclasses.replace(good_wire(), body=bytes(body)))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=8,
)
PATHS = ("order_id", "details", "details.lines", "details.lines.0", "details.lines.0.sku", "details.lines.0.quantity")
PATHS += ("details.total_cents", "details.currency", "details.address", "details.address.name", "details.address.postcode")


@given(st.sampled_from(PATHS), JSON)
@steady
def test_arbitrary_json_in_a_field_is_refused_or_kept_unchanged(path: str, value: Any) -> None:
    document = json.loads(good_wire().body)
    *parents, last = path.split(".")
    place = document
    for part in parents:
        place = place[int(part)] if isinstance(place, list) else place[part]
    place[int(last) if isinstance(place, list) else last] = value
    envelope = refused_or_read(dataclasses.replace(good_wire(), body=json.dumps(document).encode()))
    if envelope is not None:
        assert isinstance(envelope.message, PlaceOrder)
        assert json.loads(envelope.message.model_dump_json()) == document, "the message was read with other content"


@pytest.mark.parametrize("mode", MODES)
def test_every_worker_decodes_the_types_that_it_accepts(mode: Mode) -> None:
    for role in roles(mode).values():
        assert role.types == {kind.type_name: kind for kind in role.accepts}
        for type_name in role.types:
            assert TYPES[type_name] is role.types[type_name]
