"""The verdict finds planted losses, doubled effects and stuck orders, and finds none in a sound run.

The sound run is in memory, with orders of every kind. Each case damages it in one way.
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


def run_result(sound: SoundSnapshot, **changes: Any) -> RunResult:
    everything = RunResult(
        accepted=set(sound.snapshot.orders),
        snapshot=sound.snapshot,
        effects={("payment", "m1", "payment.AuthorizePayment"): 1, ("delivery", "m1", "delivery.ScheduleDelivery"): 1},
        answers={("payment", "payment.PaymentAuthorized", "m1"): {"a1"}},
    )
    return replace(everything, **changes)


def test_a_sound_run_has_nothing_lost_doubled_or_stuck(sound: SoundSnapshot) -> None:
    verdict = evaluate_run(run_result(sound))
    assert (verdict.lost, verdict.doubled, verdict.stuck) == ((), (), ())
    assert verdict.ok


Damage = Callable[[SoundSnapshot], RunResult]

#: Name -> the damage, and the field of the verdict that must report it.
DAMAGE: dict[str, tuple[Damage, str]] = {
    "an accepted order is unknown": (lambda s: run_result(s, accepted={*s.snapshot.orders, UNKNOWN}), "lost"),
    "only the withdrawal of an accepted order arrived": (
        lambda s: run_result(s, snapshot=s.copy_with("orders", s.withdrawn, state=OrderState.TOMBSTONE)),
        "lost",
    ),
    "a worker committed the effect of one message twice": (
        lambda s: run_result(s, effects={("payment", "m1", "payment.AuthorizePayment"): 2}),
        "doubled",
    ),
    "a worker published the same answer twice": (
        lambda s: run_result(s, answers={("payment", "payment.PaymentAuthorized", "m1"): {"a1", "a2"}}),
        "doubled",
    ),
    "stock is held without a reservation": (
        lambda s: run_result(s, snapshot=s.copy_with("stock", "book", held=4, available=6)),
        "doubled",
    ),
    "the gateway holds the price twice": (
        lambda s: run_result(
            s, snapshot=s.copy_with("books", s.completed, amount_cents=2 * s.snapshot.books[s.completed].amount_cents)
        ),
        "doubled",
    ),
    "an order is still pending": (
        lambda s: run_result(s, snapshot=s.copy_with("orders", s.completed, state=OrderState.PENDING)),
        "stuck",
    ),
    "an order needs attention": (
        lambda s: run_result(
            s,
            snapshot=s.copy_with(
                "orders", s.declined, state=OrderState.PENDING, attention=Attention(step="VoidPayment", error="no")
            ),
        ),
        "stuck",
    ),
    "a payment is still open": (
        lambda s: run_result(
            s,
            snapshot=s.copy_with(
                "payments", s.undeliverable, state=PaymentState.VOIDING, reason=Reason.UNDELIVERABLE, due_at=1.0
            ),
        ),
        "stuck",
    ),
    "a message of an ended order was dead-lettered": (
        lambda s: run_result(s, dead={s.completed: "delivery: order.OrderWithdrawn, attempts_exhausted"}),
        "stuck",
    ),
    "a message without an order was dead-lettered": (lambda s: run_result(s, dead={"None": "order: None, not_json"}), "stuck"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_planted_damage_is_reported_in_its_field(sound: SoundSnapshot, name: str) -> None:
    damage, kind = DAMAGE[name]
    verdict = evaluate_run(damage(sound))
    assert len(getattr(verdict, kind)) == 1
    assert not verdict.ok


def test_a_broken_promise_alone_fails_a_run(sound: SoundSnapshot) -> None:
    verdict = evaluate_run(run_result(sound, snapshot=sound.without("deliveries", sound.completed)))
    assert (verdict.lost, verdict.doubled, verdict.stuck) == ((), (), ())
    assert not verdict.ok


def test_evidence_counts_committed_effects_of_sent_messages(tmp_path: Path) -> None:
    evidence = Evidence(tmp_path)
    line = {"event": "handled", "message_id": "m1", "type": "payment.AuthorizePayment"}
    for event in (line, line, {**line, "message_id": "m2"}, {**line, "type": "payment.PollGateway"}, {"event": "started"}):
        evidence.record_line("payment", json.dumps(event).encode() + b"\n")
    evidence.record_line("payment", b"Traceback: no JSON\n")
    assert evidence.effects == {("payment", f"m{n}", "payment.AuthorizePayment"): count for n, count in ((1, 2), (2, 1))}
    assert evidence.starts == {"payment": 1}
    assert len((tmp_path / "payment.log").read_text().splitlines()) == 6


def test_evidence_counts_a_redelivered_answer_once(tmp_path: Path) -> None:
    evidence = Evidence(tmp_path)
    event = Wire(b"", message_id="a1", type="payment.PaymentVoided", app_id="payment", headers={"causation_id": "m1"})
    for wire in (event, event, replace(event, message_id="a2"), replace(event, type="order.OrderWithdrawn")):
        evidence.record_event(wire)
    assert evidence.answers == {("payment", "payment.PaymentVoided", "m1"): {"a1", "a2"}}


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
def test_a_run_that_proves_nothing_fails(
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
