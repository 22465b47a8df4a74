"""Observations: whether and why a message was dead-lettered."""

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
EXPIRED, MAXLEN, DELIVERY_LIMIT = ({"reason": reason} for reason in ("expired", "maxlen", "delivery_limit"))


@pytest.mark.parametrize(
    ("deaths", "dead"),
    [
        ([EXPIRED], None),  # back from a delay queue
        ([MAXLEN], None),  # dropped from the observer's full queue
        ([DELIVERY_LIMIT], "delivery_limit"),
        ([DELIVERY_LIMIT, EXPIRED], "delivery_limit"),  # dead-lettered after it had been in a delay queue
        ([EXPIRED, DELIVERY_LIMIT], None),
        ([], None),
        ("forged", None),
        (["forged"], None),
    ],
)
def test_the_newest_entry_of_x_death_says_whether_a_message_is_dead(deaths: object, dead: str | None) -> None:
    headers = {**WIRE.headers, "x-death": deaths, "x-first-death-reason": "expired"}
    seen = observation_of(replace(WIRE, headers=headers))
    assert seen is not None
    assert seen.dead == dead


def test_dead_letter_of_a_worker_names_its_reason() -> None:
    seen = observation_of(replace(WIRE, headers={**WIRE.headers, "dead_reason": "attempts_exhausted"}))
    assert seen is not None
    assert seen.dead == "attempts_exhausted"
