"""What one copy of a message tells about its own life."""

from dataclasses import replace

import pytest

from broker.codec import Origin, encode
from observer.observation import observation_of
from services.inventory.messages import ReleaseStock
from services.vocabulary import Reason

WIRE = encode(
    ReleaseStock(order_id="019b0000-0000-7000-8000-000000000001", reason=Reason.WITHDRAWN),
    message_id="019b0000-0000-7000-8000-000000000002",
    now=1.0,
    app_id="coordinator",
    origin=Origin(),
)
EXPIRED, MAXLEN, GIVEN_UP = ({"reason": reason} for reason in ("expired", "maxlen", "delivery_limit"))


@pytest.mark.parametrize(
    ("deaths", "dead"),
    [
        ([EXPIRED], None),  # back from a delay queue
        ([MAXLEN], None),  # no room in the observer's own queue
        ([GIVEN_UP], "delivery_limit"),
        ([GIVEN_UP, EXPIRED], "delivery_limit"),  # given up after it had been in a delay queue
        ([EXPIRED, GIVEN_UP], None),
        ([], None),
        ("forged", None),
        (["forged"], None),
    ],
)
def test_the_last_thing_that_the_broker_did_with_a_message_says_whether_it_is_dead(deaths: object, dead: str | None) -> None:
    headers = {**WIRE.headers, "x-death": deaths, "x-first-death-reason": "expired"}
    seen = observation_of(replace(WIRE, headers=headers))
    assert seen is not None
    assert seen.dead == dead


def test_a_message_that_a_worker_put_aside_says_why_itself() -> None:
    seen = observation_of(replace(WIRE, headers={**WIRE.headers, "dead_reason": "attempts_exhausted"}))
    assert seen is not None
    assert seen.dead == "attempts_exhausted"
