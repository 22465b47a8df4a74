"""An order's history: how it ended and why, what was undone, where it waited, what remains and what is missing.

On the observations of journeys that run in memory.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootstrap.modes import Mode
from broker.faults import MessageFault
from lab.journeys.catalogue import JOURNEYS
from observer.history import History, LossPeriod, build_history
from observer.message_flow import MESSAGE_FLOWS
from observer.observation import Observation
from services.faults import BUSINESS_FAULTS
from services.message_types import SERVICES
from services.vocabulary import NEEDS_ATTENTION
from tests.support.journey_observations import WITHDRAWALS, failing, journey, overdue, told
from tests.support.system import MODES

ALL = [(mode, name) for name in JOURNEYS for mode in MODES]
#: Journeys for the property tests: together they contain every kind of failure.
FAILING_JOURNEYS = [(mode, name) for name in ("declined", "withdraw-payment-late", "inventory-down") for mode in MODES]


def history(mode: Mode, observations: list[Observation], *losses: LossPeriod) -> History:
    return build_history(MESSAGE_FLOWS[mode], observations, losses)


def upto(mode: Mode, name: str, *last: str) -> list[Observation]:
    """A journey's observations, up to and including the first of each of the types."""
    observations = list(journey(mode, name))
    types = [observation.type for observation in observations]
    return observations[: max(types.index(type_name) for type_name in last if type_name in types) + 1]


# --- end and root cause ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("mode", "name"), [case for case in ALL if len(JOURNEYS[case[1]].ends) == 1])
def test_history_ends_as_the_order_and_leaves_nothing_open(mode: Mode, name: str) -> None:
    one = told(mode, name)
    assert " ".join(filter(None, (one.state, one.reason))) in JOURNEYS[name].ends
    assert (one.remains, one.waiting, one.gaps) == ((), (), ())


@pytest.mark.parametrize(
    ("name", "why", "root"),
    [
        ("happy", "every step succeeded", None),
        ("out-of-stock", "inventory: less was in stock than was ordered", "StockRejected"),
        (
            "declined",
            "payment: the payment gateway declined the payment (injected with the order: payment:declined)",
            "PaymentDeclined",
        ),
        (
            "undeliverable",
            "delivery: there is no delivery to this address (injected with the order: delivery:undeliverable)",
            "DeliveryRejected",
        ),
        ("withdraw-payment-late", "the customer withdrew the order before the pivot", "OrderWithdrawn"),
        ("withdraw-before-it-arrives", "the withdrawal arrived before the order", None),
    ],
)
@pytest.mark.parametrize("mode", MODES)
def test_root_cause_is_the_first_message_that_states_the_reason(mode: Mode, name: str, why: str, root: str | None) -> None:
    one = told(mode, name)
    assert one.why == why
    assert (one.entries[one.root - 1].name if one.root else None) == root


@pytest.mark.parametrize(
    ("mode", "name", "why"),
    [
        (Mode.ORCHESTRATOR, "inventory-down", "inventory had not answered ReserveStock when"),
        (Mode.CHOREOGRAPHY, "inventory-down", "inventory had not answered OrderPlaced with ReserveStock when"),
        (Mode.ORCHESTRATOR, "payment-down", "payment had not answered AuthorizePayment when"),
        (Mode.CHOREOGRAPHY, "payment-down", "payment had not answered StockReserved with AuthorizePayment when"),
    ],
)
def test_root_cause_of_a_deadline_is_the_worker_that_had_not_answered(mode: Mode, name: str, why: str) -> None:
    assert told(mode, name).why.startswith(why)


@pytest.mark.parametrize("mode", MODES)
def test_completed_order_explains_why_its_withdrawal_had_no_effect(mode: Mode) -> None:
    one = told(mode, "withdraw-too-late")
    assert "after the pivot an order goes forward" in one.why
    assert one.state == "COMPLETED"


#: Every failure that can be injected, together with those that a compensation's failure needs in order to act.
FAILURES = [
    (f"{service}:{failure}",)
    for service in SERVICES
    for failure in sorted({*BUSINESS_FAULTS.get(service, ()), *MessageFault})
    if failure not in ("undo_error", "void_error") and (service, failure) != ("order", "error")
] + [
    ("payment:declined", "inventory:undo_error"),
    ("delivery:undeliverable", "payment:undo_error"),
    ("delivery:undeliverable", "payment:void_error"),
]


@pytest.mark.parametrize("failures", FAILURES, ids=" ".join)
@pytest.mark.parametrize("mode", MODES)
def test_history_names_the_stored_state_and_the_injected_failure(mode: Mode, failures: tuple[str, ...]) -> None:
    one, state, reason = failing(mode, *failures)
    assert (one.state, one.reason if one.ended else None) == (state, reason if one.ended else None)
    assert one.gaps == ()
    if state == "COMPLETED":
        assert one.why == "every step succeeded"
    else:
        assert f"(injected with the order: {failures[-1] if not one.ended else failures[0]})" in one.why


@pytest.mark.parametrize("mode", MODES)
def test_root_cause_of_a_deadline_whose_compensation_failed(mode: Mode) -> None:
    one, state, _ = failing(mode, "inventory:error", "delivery:undo_error")
    assert one.state == state
    if mode is Mode.ORCHESTRATOR:  # the saga undoes from the step under way, inventory's, and never calls delivery
        assert one.why.startswith("inventory had not answered ReserveStock when the order's deadline passed, retried")
    else:
        assert one.why.startswith("delivery: CancelDelivery has exhausted its retry budget")
        assert one.remains == ("CancelDelivery", "VoidPayment", "ReleaseStock", "RejectOrder")


# --- commands, compensations and delays -----------------------------------------------------------------------------------


def test_choreography_entries_name_the_command_that_was_handled() -> None:
    did = [(entry.sender, entry.deed, entry.name) for entry in told(Mode.CHOREOGRAPHY, "happy").entries[1:]]
    assert did == [
        ("order", "PlaceOrder", "OrderPlaced"),
        ("inventory", "ReserveStock", "StockReserved"),
        ("payment", "AuthorizePayment", "PaymentAuthorized"),
        ("delivery", "ScheduleDelivery", "DeliveryScheduled"),
        ("order", "CompleteOrder", "OrderCompleted"),
    ]


@pytest.mark.parametrize("mode", MODES)
def test_every_message_but_those_of_the_api_has_an_earlier_cause(mode: Mode) -> None:
    for name in JOURNEYS:
        for entry in told(mode, name).entries:
            assert (entry.cause is None) == (entry.sender == "api"), (name, entry)
            assert entry.cause is None or entry.cause < entry.number


@pytest.mark.parametrize("mode", MODES)
def test_compensations_are_in_order_and_say_whether_they_had_effect(mode: Mode) -> None:
    assert [(one.command, one.had_effect) for one in told(mode, "undeliverable").undone] == [
        ("VoidPayment", True),
        ("ReleaseStock", True),
    ]
    late = {one.command: one.had_effect for one in told(mode, "withdraw-inventory-late").undone}
    assert late["ReleaseStock"] is False


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ["withdraw-payment-pending", "payment-down"])
def test_unanswered_payment_was_undone_in_doubt(mode: Mode, name: str) -> None:
    one = told(mode, name)
    assert not {"PaymentAuthorized", "PaymentDeclined"} & {entry.name for entry in one.entries}
    assert [(undone.command, undone.had_effect) for undone in one.undone][-2:] == [("VoidPayment", None), ("ReleaseStock", True)]


@pytest.mark.parametrize("mode", MODES)
def test_compensation_of_a_step_that_was_not_requested_had_no_effect(mode: Mode) -> None:
    undone = {one.command: one.had_effect for one in failing(mode, "inventory:error")[0].undone}
    never_asked = {} if mode is Mode.ORCHESTRATOR else {"CancelDelivery": False, "VoidPayment": False}
    assert undone == never_asked | {"ReleaseStock": None}


@pytest.mark.parametrize("mode", MODES)
def test_step_undone_within_the_same_millisecond_counts_as_undone(mode: Mode) -> None:
    """Both answers may come from one commit; which has the smaller id is chance."""
    observations = journey(mode, "withdraw-payment-pending")
    (released,) = (seen.sent_at for seen in observations if seen.type == "inventory.StockReleased")
    late = [replace(seen, sent_at=released + 0.001) if seen.type == "inventory.StockReserved" else seen for seen in observations]
    undone = {one.command: one.had_effect for one in build_history(MESSAGE_FLOWS[mode], late).undone}
    assert undone["ReleaseStock"] is True


@pytest.mark.parametrize(
    ("name", "entry", "wait"),
    [
        ("pending", "PaymentAuthorized", "for the payment gateway"),
        ("gateway-hangs", "PaymentDeclined", "for a final answer of the payment gateway, which did not come"),
        ("inventory-down", "OrderWithdrawn", "until the order's deadline"),
        ("inventory-down", "StockReserved", "until inventory reacted: it was down, blocked or busy"),
        ("withdraw-payment-late", "PaymentDeclined", "for one retry at payment"),
    ],
)
@pytest.mark.parametrize("mode", MODES)
def test_long_delay_is_explained(mode: Mode, name: str, entry: str, wait: str) -> None:
    waits = [one.wait for one in told(mode, name).entries if one.name == entry]
    assert any(wait in (one or "") for one in waits), waits


@pytest.mark.parametrize(
    ("failure", "wait"),
    [
        (None, "2.3 s for payment or its gateway"),
        ("delivery:crash", "2.3 s for payment or its gateway"),
        ("payment:declined", "2.3 s for payment or its gateway"),
        ("payment:crash", "2.3 s: payment crashed (injected)"),
        ("payment:pending", "2.3 s for the payment gateway (injected: pending)"),
        ("payment:slow", "2.3 s for the payment gateway (injected: slow)"),
    ],
)
@pytest.mark.parametrize("mode", MODES)
def test_slow_payment_is_explained_by_the_injected_failure_if_any(mode: Mode, failure: str | None, wait: str) -> None:
    assert waited(mode, journey(mode, "happy"), "payment.PaymentAuthorized", failure) == wait


@pytest.mark.parametrize(
    ("failure", "wait"),
    [
        ("inventory:crash", "2.3 s: inventory crashed (injected)"),
        ("inventory:slow", "2.3 s: inventory was slow (injected)"),
        ("inventory:out_of_stock", "2.3 s until inventory reacted: it was down, blocked or busy"),
    ],
)
@pytest.mark.parametrize("mode", MODES)
def test_slow_step_is_explained_by_the_injected_failure(mode: Mode, failure: str, wait: str) -> None:
    assert waited(mode, journey(mode, "happy"), "inventory.StockReserved", failure) == wait


@pytest.mark.parametrize("mode", MODES)
def test_injected_crash_does_not_explain_a_slow_compensation(mode: Mode) -> None:
    assert (
        waited(mode, journey(mode, "undeliverable"), "payment.PaymentVoided", "payment:crash")
        == "2.3 s for payment or its gateway"
    )


def waited(mode: Mode, whole: Sequence[Observation], type_name: str, failure: str | None) -> str | None:
    """The wait of the first message of a type, moved to 2.3 s after its cause, with `failure` injected."""
    whole = [replace(one, injected=failure) for one in whole]
    late = next(one for one in whole if one.type == type_name)
    cause = next(one for one in whole if one.message_id == late.cause)
    one = history(mode, [replace(one, sent_at=cause.sent_at + 2.3) if one is late else one for one in whole])
    return next(entry.wait for entry in one.entries if entry.type == type_name)


@pytest.mark.parametrize("mode", MODES)
def test_open_order_shows_which_worker_is_due_and_what_remains(mode: Mode) -> None:
    one = history(mode, upto(mode, "happy", "inventory.StockReserved", "payment.AuthorizePayment"))
    assert one.state == "PENDING"
    assert [waiting.worker for waiting in one.waiting] == ["payment"]
    assert one.remains == ("AuthorizePayment", "ScheduleDelivery", "CompleteOrder")
    if mode is Mode.CHOREOGRAPHY:
        assert one.remains_note == "inferred: in choreography no service knows the sequence"
    else:
        assert one.remains_note is None


def test_choreography_says_that_the_rest_of_a_withdrawal_is_inferred() -> None:
    one = history(Mode.CHOREOGRAPHY, upto(Mode.CHOREOGRAPHY, "withdraw-payment-late", "order.OrderWithdrawn"))
    assert one.remains == ("CancelDelivery", "VoidPayment", "ReleaseStock", "RejectOrder")
    assert "no service knows how far the order got" in str(one.remains_note)


@pytest.mark.parametrize("mode", MODES)
def test_escalated_order_needs_attention_until_it_moves(mode: Mode) -> None:
    begun = upto(mode, "declined", "payment.PaymentDeclined")
    last = begun[-1]
    facts = {"step": "ReleaseStock", "error": "no shelf"}
    escalation = replace(
        last, message_id=_id(1), type="inventory.InventoryStepFailed", sender="inventory", facts=facts, sent_at=last.sent_at + 1
    )
    moved = replace(escalation, message_id=_id(2), type="inventory.StockReleased", facts={}, sent_at=last.sent_at + 2)
    one = history(mode, [*begun, escalation])
    assert (one.state, one.reason) == (NEEDS_ATTENTION, "ReleaseStock: no shelf")
    assert one.why.startswith("inventory: ReleaseStock has exhausted its retry budget: no shelf")
    assert one.stuck(one.moved_at, stuck_after_s=30.0)
    assert history(mode, [*begun, escalation, moved]).state == "PENDING"


#: Failures that make a compensation exhaust its retry budget, and the event that answers the compensation afterwards.
STUCK = [
    (mode, failure, answer)
    for mode in MODES
    for failure, answer in (("payment:void_error", "payment.PaymentVoided"), ("inventory:undo_error", "inventory.StockReleased"))
]


@pytest.mark.parametrize(("mode", "failure", "answer"), STUCK)
def test_repeated_withdrawal_does_not_resolve_an_escalation(mode: Mode, failure: str, answer: str) -> None:
    whole = overdue(mode, "delivery:undeliverable", failure)
    for count in range(next(n for n, seen in enumerate(whole) if seen.type.endswith("StepFailed")) + 1, len(whole) + 1):
        one = history(mode, list(whole[:count]))
        assert one.state == NEEDS_ATTENTION, whole[count - 1].type
    last = whole[-1]
    answered = replace(last, message_id=_id(1), type=answer, sender=answer.partition(".")[0], facts={}, sent_at=last.sent_at + 1)
    one = history(mode, [*whole, answered])
    assert (one.state, one.reason) == ("PENDING", None)
    assert "has exhausted its retry budget" not in one.why


@pytest.mark.parametrize("mode", MODES)
def test_two_escalations_need_two_answers(mode: Mode) -> None:
    begun = upto(mode, "declined", "payment.PaymentDeclined")
    calls = [
        replace(begun[-1], message_id=_id(number), type=kind, sender=sender, facts=facts, sent_at=begun[-1].sent_at + number)
        for number, (kind, sender, facts) in enumerate(
            [
                ("payment.PaymentStepFailed", "payment", {"step": "VoidPayment", "error": "no"}),
                ("delivery.DeliveryStepFailed", "delivery", {"step": "CancelDelivery", "error": "no car"}),
                ("delivery.DeliveryCancelled", "delivery", {}),
                ("payment.PaymentVoided", "payment", {}),
            ],
            start=1,
        )
    ]
    states = [(one.state, one.reason) for one in (history(mode, begun + calls[:count]) for count in range(1, 5))]
    assert states == [
        (NEEDS_ATTENTION, "VoidPayment: no"),
        (NEEDS_ATTENTION, "CancelDelivery: no car"),
        (NEEDS_ATTENTION, "VoidPayment: no"),
        ("PENDING", None),
    ]


@pytest.mark.parametrize("mode", MODES)
def test_repeated_withdrawal_does_not_count_as_progress(mode: Mode) -> None:
    whole = overdue(mode, "delivery:undeliverable", "payment:void_error")
    calm = [seen for seen in whole if not seen.type.endswith("StepFailed")]
    one = history(mode, calm)
    assert one.state == "PENDING"
    assert [(waiting.worker, waiting.deed) for waiting in one.waiting] == [("payment", "VoidPayment")]
    withdrawals = [entry.at for entry in one.entries if entry.name == "OrderWithdrawn"]
    assert len(withdrawals) == WITHDRAWALS
    assert one.moved_at < withdrawals[1]
    assert one.stuck(withdrawals[-1], stuck_after_s=withdrawals[-1] - withdrawals[1])


@pytest.mark.parametrize("mode", MODES)
def test_wait_of_a_repeated_withdrawal_counts_from_the_one_before(mode: Mode) -> None:
    withdrawals = [
        entry
        for entry in history(mode, list(overdue(mode, "delivery:undeliverable", "payment:void_error"))).entries
        if entry.name == "OrderWithdrawn"
    ]
    assert withdrawals[0].wait == f"{withdrawals[0].since_start_s:.1f} s until the order's deadline"
    assert {entry.deed for entry in withdrawals} == {None}
    for before, again in pairwise(withdrawals):
        assert again.wait == f"{again.at - before.at:.1f} s until it was published again: the order had not ended"


@pytest.mark.parametrize("mode", MODES)
def test_wait_before_an_escalation_is_the_retry_budget(mode: Mode) -> None:
    whole = overdue(mode, "delivery:undeliverable", "payment:void_error")
    wait = waited(mode, whole, "payment.PaymentStepFailed", None)
    assert wait == "2.3 s until payment had exhausted its retry budget for VoidPayment"


def _id(number: int) -> str:
    return f"019b0000-0000-7000-8000-{number:012x}"


@pytest.mark.parametrize("mode", MODES)
def test_open_order_without_progress_is_stuck(mode: Mode) -> None:
    one = history(mode, upto(mode, "happy", "inventory.StockReserved"))
    assert not one.stuck(one.moved_at + 29, stuck_after_s=30.0)
    assert one.stuck(one.moved_at + 31, stuck_after_s=30.0)
    assert not told(mode, "happy").stuck(one.moved_at + 1e6, stuck_after_s=30.0)


@pytest.mark.parametrize("mode", MODES)
def test_dead_letter_without_effect_is_the_root_cause(mode: Mode) -> None:
    begun = upto(mode, "happy", "inventory.StockReserved", "payment.AuthorizePayment")
    dead = replace(begun[-1], dead="attempts_exhausted", attempt=5)
    one = history(mode, [*begun, dead])
    assert f"{one.entries[-1].name} is a dead letter of payment: attempts_exhausted" in one.why


# --- gaps -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("mode", "name"), FAILING_JOURNEYS)
def test_missing_message_that_had_an_effect_is_named_as_a_gap(mode: Mode, name: str) -> None:
    whole = journey(mode, name)
    for missing in {observation.message_id for observation in whole}:
        rest = [observation for observation in whole if observation.message_id != missing]
        kind = next(observation.type for observation in whole if observation.message_id == missing).partition(".")[2]
        had_effect = any(observation.cause == missing for observation in rest)
        gaps = history(mode, rest).gaps
        assert len(gaps) == had_effect
        assert all(kind in gap.partition(" was not observed")[0] for gap in gaps), gaps


@pytest.mark.parametrize("mode", MODES)
def test_loss_is_a_gap_only_while_the_order_was_under_way(mode: Mode) -> None:
    whole = list(journey(mode, "pending"))
    began, ended = whole[0].sent_at, whole[-1].sent_at
    assert not history(mode, whole, LossPeriod(began - 9, began - 1), LossPeriod(ended + 1, ended + 9)).gaps
    assert "lost messages" in history(mode, whole, LossPeriod(began + 1, began + 2)).gaps[0]
    unended = history(mode, whole[:3], LossPeriod(ended + 1, ended + 9))
    assert "lost messages" in unended.gaps[0]
    assert unended.remains_note == "messages are missing: some of this may have been done"


# --- order of arrival -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("mode", "name"), FAILING_JOURNEYS)
@given(data=st.data())
def test_order_and_number_of_arrivals_make_no_difference(mode: Mode, name: str, data: st.DataObject) -> None:
    whole = list(journey(mode, name))
    again = data.draw(st.lists(st.sampled_from(whole), max_size=8))
    assert history(mode, data.draw(st.permutations(whole + again))) == history(mode, whole)


@pytest.mark.parametrize(("mode", "name"), FAILING_JOURNEYS)
@given(data=st.data())
def test_causes_come_first_despite_gaps_and_clock_skew(mode: Mode, name: str, data: st.DataObject) -> None:
    whole = list(journey(mode, name))
    some = data.draw(st.lists(st.sampled_from(whole), min_size=1))
    skewed = [replace(one, sent_at=one.sent_at + data.draw(st.integers(-60, 60))) for one in some]
    one = history(mode, skewed)
    assert [entry.number for entry in one.entries] == list(range(1, len({seen.message_id for seen in some}) + 1))
    for entry in one.entries:
        assert entry.cause is None or one.entries[entry.cause - 1].at <= entry.at
        assert not (entry.cause and entry.missing_cause)


def test_messages_that_cause_each_other_still_form_a_history() -> None:
    one, other, *_ = journey(Mode.ORCHESTRATOR, "happy")
    circle = [replace(one, cause=other.message_id), replace(other, cause=one.message_id)]
    assert history(Mode.ORCHESTRATOR, circle) == history(Mode.ORCHESTRATOR, circle[::-1])


@pytest.mark.parametrize("mode", MODES)
def test_observation_is_stored_without_loss(mode: Mode) -> None:
    for name in JOURNEYS:
        for observation in journey(mode, name):
            assert Observation.from_body(observation.to_body()) == observation
