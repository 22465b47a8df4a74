"""Raw messages: what is kept of a message is readable and bounded, whatever was sent.

How an order's messages are read back is tested in tests/dashboard/test_orders.py.
"""

import json
from dataclasses import replace
from functools import reduce

from hypothesis import given
from hypothesis import strategies as st

from bootstrap.modes import Mode
from broker.transport import Wire
from observer.observation import Observation, merge
from observer.raw_message import BODY_MAX, HEADERS_MAX, TEXT_MAX, RawMessage
from tests.support.journey_observations import journey

FIRST = journey(Mode.ORCHESTRATOR, "happy")[0]


def raw_message(**headers: object) -> RawMessage:
    return RawMessage.of(Wire(b'{"order_id":"x"}', message_id="m", app_id="api", timestamp=7, headers=headers))


def copy(attempt: int, **headers: object) -> Observation:
    """The observation of the message's retry number `attempt`; 1 is the message as it was first sent."""
    all_headers = {**headers, "attempt": attempt} if attempt > 1 else headers
    return replace(FIRST, attempt=attempt, original=raw_message(**all_headers).to_text())


def test_message_is_kept_with_its_headers_properties_and_body() -> None:
    kept = RawMessage.from_text(raw_message(version=1, injected="payment:declined").to_text())
    assert kept.headers == {"version": 1, "injected": "payment:declined"}
    assert kept.properties == {"message_id": "m", "app_id": "api", "timestamp": 7}
    assert (kept.body, kept.cut) == ({"order_id": "x"}, False)


def test_long_body_is_cut_and_marked_as_cut() -> None:
    body = json.dumps({"text": "é" * BODY_MAX}, ensure_ascii=False).encode()
    kept = RawMessage.of(Wire(body))
    assert kept.cut
    assert isinstance(kept.body, str)
    assert body.startswith(kept.body.encode())
    assert BODY_MAX - 1 <= len(kept.body.encode()) <= BODY_MAX


def test_unknown_headers_are_bounded_and_become_json() -> None:
    kept = RawMessage.of(Wire(b"{}", headers={f"h{number}": "x" * 10_000 for number in range(1_000)}))
    assert len(kept.headers) == HEADERS_MAX
    odd = raw_message(nan=float("nan"), raw=b"\xff", nested={"a": [1]}, lone="\ud800")
    assert "NaN" not in odd.to_text().replace('"nan"', "")
    assert odd.to_text().isascii()


def test_text_of_a_message_is_bounded_and_headers_go_first() -> None:
    fat = {f"h{number}": "é" * 1_000 for number in range(HEADERS_MAX)}
    kept = RawMessage.from_text(raw_message(**fat).to_text())
    assert (kept.headers, kept.body, kept.cut) == ({}, {"order_id": "x"}, True)
    worst = RawMessage.of(Wire(json.dumps("\U0001f4a5" * 1_000, ensure_ascii=False).encode(), headers=fat))
    assert len(worst.to_text()) <= TEXT_MAX


@given(st.permutations([copy(1), copy(2), copy(3, dead_reason="error"), replace(copy(4), original="")]))
def test_earliest_copy_is_kept_whatever_the_order_of_arrival(copies: list[Observation]) -> None:
    whole = reduce(merge, copies)
    assert whole.original == copy(1).original
    assert whole.attempt == 4
