"""The verdict finds planted losses, doubles and stuck orders, and nothing where there is nothing.

What is sound comes from a real run in memory, with orders of every kind; each case then spoils it in one way.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bootstrap.modes import Mode
from broker.transport import Wire
from lab.chaos.evidence import Evidence
from lab.chaos.run import ChaosPlan, ChaosReport
from lab.chaos.verdict import ChaosVerdict, RunResult, evaluate_run
from ops.audit import Audit
from services.order.domain import OrderState
from services.payment.domain import PaymentState
from services.vocabulary import Attention, Reason
from tests.support.snapshots import SoundSnapshot, every_kind
from tests.support.system import in_memory

UNKNOWN = "019b0000-0000-7000-8000-00000000dead"


@pytest.fixture(scope="module", params=list(Mode))
def sound(request: pytest.FixtureRequest) -> SoundSnapshot:
    return in_memory(Mode(request.param), every_kind)


def remains_of(sound: SoundSnapshot, **changes: Any) -> RunResult:
    everything = RunResult(
        accepted=set(sound.seen.orders),
        snapshot=sound.seen,
        effects={("payment", "m1", "payment.AuthorizePayment"): 1, ("delivery", "m1", "delivery.ScheduleDelivery"): 1},
        answers={("payment", "payment.PaymentAuthorized", "m1"): {"a1"}},
    )
    return replace(everything, **changes)


def test_a_sound_run_has_nothing_lost_doubled_or_stuck(sound: SoundSnapshot) -> None:
    verdict = evaluate_run(remains_of(sound))
    assert (verdict.lost, verdict.doubled, verdict.stuck) == ((), (), ())
    assert verdict.ok


Spoil = Callable[[SoundSnapshot], RunResult]

#: Name -> the damage, and under what it is counted.
DAMAGE: dict[str, tuple[Spoil, str]] = {
    "an accepted order is unknown": (lambda s: remains_of(s, accepted={*s.seen.orders, UNKNOWN}), "lost"),
    "of an accepted order only the withdrawal arrived": (
        lambda s: remains_of(s, snapshot=s.copy_with("orders", s.withdrawn, state=OrderState.TOMBSTONE)),
        "lost",
    ),
    "a worker committed the effect of one message twice": (
        lambda s: remains_of(s, effects={("payment", "m1", "payment.AuthorizePayment"): 2}),
        "doubled",
    ),
    "a worker published the same answer twice": (
        lambda s: remains_of(s, answers={("payment", "payment.PaymentAuthorized", "m1"): {"a1", "a2"}}),
        "doubled",
    ),
    "stock is held that nobody reserved": (
        lambda s: remains_of(s, snapshot=s.copy_with("stock", "book", held=4, available=6)),
        "doubled",
    ),
    "the gateway holds the price twice": (
        lambda s: remains_of(
            s, snapshot=s.copy_with("books", s.completed, amount_cents=2 * s.seen.books[s.completed].amount_cents)
        ),
        "doubled",
    ),
    "an order is still pending": (
        lambda s: remains_of(s, snapshot=s.copy_with("orders", s.completed, state=OrderState.PENDING)),
        "stuck",
    ),
    "an order needs attention": (
        lambda s: remains_of(
            s,
            snapshot=s.copy_with(
                "orders", s.declined, state=OrderState.PENDING, attention=Attention(step="VoidPayment", error="no")
            ),
        ),
        "stuck",
    ),
    "a payment still waits for the gateway": (
        lambda s: remains_of(
            s,
            snapshot=s.copy_with(
                "payments", s.undeliverable, state=PaymentState.VOIDING, reason=Reason.UNDELIVERABLE, due_at=1.0
            ),
        ),
        "stuck",
    ),
    "a message of an order that has ended was given up": (
        lambda s: remains_of(s, dead={s.completed: "delivery: order.OrderWithdrawn, budget_used_up"}),
        "stuck",
    ),
    "a message of nobody's order was given up": (lambda s: remains_of(s, dead={"None": "order: None, not_json"}), "stuck"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_planted_damage_is_found_and_counted_under_its_name(sound: SoundSnapshot, name: str) -> None:
    spoil, kind = DAMAGE[name]
    verdict = evaluate_run(spoil(sound))
    assert len(getattr(verdict, kind)) == 1
    assert not verdict.ok


def test_a_promise_that_does_not_hold_fails_a_run_in_which_nothing_else_is_wrong(sound: SoundSnapshot) -> None:
    verdict = evaluate_run(remains_of(sound, snapshot=sound.less("deliveries", sound.completed)))
    assert (verdict.lost, verdict.doubled, verdict.stuck) == ((), (), ())
    assert not verdict.ok


def test_of_what_workers_say_only_committed_effects_of_travelling_messages_count(tmp_path: Path) -> None:
    heard = Evidence(tmp_path)
    line = {"event": "handled", "message_id": "m1", "type": "payment.AuthorizePayment"}
    for event in (line, line, {**line, "message_id": "m2"}, {**line, "type": "payment.PollGateway"}, {"event": "started"}):
        heard.record_line("payment", json.dumps(event).encode() + b"\n")
    heard.record_line("payment", b"Traceback: no JSON\n")
    assert heard.effects == {("payment", f"m{n}", "payment.AuthorizePayment"): count for n, count in ((1, 2), (2, 1))}
    assert heard.starts == {"payment": 1}
    assert len((tmp_path / "payment.log").read_text().splitlines()) == 6


def test_the_same_answer_heard_twice_is_one_answer_and_a_repeated_withdrawal_is_none(tmp_path: Path) -> None:
    heard = Evidence(tmp_path)
    event = Wire(b"", message_id="a1", type="payment.PaymentVoided", app_id="payment", headers={"causation_id": "m1"})
    for wire in (event, event, replace(event, message_id="a2"), replace(event, type="order.OrderWithdrawn")):
        heard.record_event(wire)
    assert heard.answers == {("payment", "payment.PaymentVoided", "m1"): {"a1", "a2"}}


@pytest.mark.parametrize(
    ("observed", "completed", "rejected", "proves"),
    [
        ({"kill broker": 1}, 5, {"withdrawn": 1}, True),
        ({"kill broker": 0}, 5, {"withdrawn": 1}, False),
        ({}, 5, {"withdrawn": 1}, False),
        ({"kill broker": 1}, 0, {"deadline": 5}, False),
        ({"kill broker": 1}, 5, {}, False),
    ],
)
def test_a_run_in_which_nothing_happened_fails(
    observed: dict[str, int], completed: int, rejected: dict[str, int], proves: bool
) -> None:
    report = ChaosReport(
        plan=ChaosPlan(Mode.ORCHESTRATOR, 10.0, 1, 10.0),
        injected=dict.fromkeys(observed, 1),
        observed=observed,
        orders=5,
        completed=completed,
        rejected=rejected,
        withdrawals=0,
        restarts=0,
        drained_s=0.0,
        verdict=ChaosVerdict((), (), (), Audit(0, ())),
    )
    assert report.ok is proves
    assert bool(report.vacuous) is not proves
