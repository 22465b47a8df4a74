"""What an order's history says: how it ended and why, what was undone, where it waited, and what nobody can know.

On journeys in memory, as an observer hears them.
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
from observer.history import NEEDS_ATTENTION, History, LossPeriod, build_history
from observer.message_flow import MESSAGE_FLOWS
from observer.observation import Observation
from services.faults import BUSINESS_FAULTS
from services.message_types import SERVICES
from tests.support.journey_observations import OFTEN, failing, journey, overdue, told
from tests.support.system import MODES

ALL = [(mode, name) for name in JOURNEYS for mode in MODES]
#: Between them every way of going wrong; property tests over all journeys would only repeat these.
TELLING = [(mode, name) for name in ("declined", "withdraw-payment-late", "inventory-down") for mode in MODES]


def heard(mode: Mode, observations: list[Observation], *losses: LossPeriod) -> History:
    return build_history(MESSAGE_FLOWS[mode], observations, losses)


def upto(mode: Mode, name: str, *last: str) -> list[Observation]:
    """A journey's messages up to and with the first of a type."""
    observations = list(journey(mode, name))
    types = [observation.type for observation in observations]
    return observations[: max(types.index(type_name) for type_name in last if type_name in types) + 1]


# --- how it ended, and why ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("mode", "name"), [case for case in ALL if len(JOURNEYS[case[1]].ends) == 1])
def test_a_history_ends_as_the_order_did_and_leaves_nothing_open(mode: Mode, name: str) -> None:
    one = told(mode, name)
    assert " ".join(filter(None, (one.state, one.reason))) in JOURNEYS[name].ends
    assert (one.remains, one.waiting, one.gaps) == ((), (), ())


@pytest.mark.parametrize(
    ("name", "why", "root"),
    [
        ("happy", "every step succeeded", None),
        ("out-of-stock", "inventory: there was less on the shelf than was ordered", "StockRejected"),
        ("declined", "payment: the payment gateway said no (injected with the order: payment:declined)", "PaymentDeclined"),
        (
            "undeliverable",
            "delivery: nobody delivers there (injected with the order: delivery:undeliverable)",
            "DeliveryRejected",
        ),
        ("withdraw-payment-late", "the customer took the order back before the pivot", "OrderWithdrawn"),
        ("withdraw-before-it-arrives", "its withdrawal came before the order itself", None),
    ],
)
@pytest.mark.parametrize("mode", MODES)
def test_the_root_cause_is_the_first_message_that_said_so(mode: Mode, name: str, why: str, root: str | None) -> None:
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
def test_behind_a_deadline_stands_whoever_had_not_answered(mode: Mode, name: str, why: str) -> None:
    assert told(mode, name).why.startswith(why)


@pytest.mark.parametrize("mode", MODES)
def test_past_the_pivot_a_withdrawal_explains_itself(mode: Mode) -> None:
    one = told(mode, "withdraw-too-late")
    assert "past the pivot an order goes forward" in one.why
    assert one.state == "COMPLETED"


#: Every failure that can be asked for with an order, with what it takes to let it act.
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
def test_whatever_was_injected_it_tells_the_end_that_is_stored_and_the_culprit(mode: Mode, failures: tuple[str, ...]) -> None:
    one, state, reason = failing(mode, *failures)
    assert (one.state, one.reason if one.ended else None) == (state, reason if one.ended else None)
    assert one.gaps == ()
    if state == "COMPLETED":
        assert one.why == "every step succeeded"
    else:
        assert f"(injected with the order: {failures[-1] if not one.ended else failures[0]})" in one.why


@pytest.mark.parametrize("mode", MODES)
def test_a_deadline_whose_undoing_fails_for_good_names_who_failed(mode: Mode) -> None:
    one, state, _ = failing(mode, "inventory:error", "delivery:undo_error")
    assert one.state == state
    if mode is Mode.ORCHESTRATOR:  # it undoes from the step under way, inventory's, and never asks delivery
        assert one.why.startswith("inventory had not answered ReserveStock when the order's own deadline passed, put aside")
    else:
        assert one.why.startswith("delivery: CancelDelivery has failed for good")
        assert one.remains == ("CancelDelivery", "VoidPayment", "ReleaseStock", "RejectOrder")


# --- what was done, undone and waited for ---------------------------------------------------------------------------------


def test_in_choreography_it_says_who_did_what_after_which_event() -> None:
    did = [(entry.sender, entry.deed, entry.name) for entry in told(Mode.CHOREOGRAPHY, "happy").entries[1:]]
    assert did == [
        ("order", "PlaceOrder", "OrderPlaced"),
        ("inventory", "ReserveStock", "StockReserved"),
        ("payment", "AuthorizePayment", "PaymentAuthorized"),
        ("delivery", "ScheduleDelivery", "DeliveryScheduled"),
        ("order", "CompleteOrder", "OrderCompleted"),
    ]


@pytest.mark.parametrize("mode", MODES)
def test_every_message_but_the_doors_has_a_cause_that_comes_before_it(mode: Mode) -> None:
    for name in JOURNEYS:
        for entry in told(mode, name).entries:
            assert (entry.cause is None) == (entry.sender == "door"), (name, entry)
            assert entry.cause is None or entry.cause < entry.number


@pytest.mark.parametrize("mode", MODES)
def test_compensations_stand_in_their_order_and_say_whether_there_was_anything_to_undo(mode: Mode) -> None:
    assert [(one.command, one.had_effect) for one in told(mode, "undeliverable").undone] == [
        ("VoidPayment", True),
        ("ReleaseStock", True),
    ]
    late = {one.command: one.had_effect for one in told(mode, "withdraw-inventory-late").undone}
    assert late["ReleaseStock"] is False


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ["withdraw-payment-pending", "payment-down"])
def test_a_payment_that_was_asked_for_and_never_answered_was_undone_in_doubt(mode: Mode, name: str) -> None:
    one = told(mode, name)
    assert not {"PaymentAuthorized", "PaymentDeclined"} & {entry.name for entry in one.entries}
    assert [(undone.command, undone.had_effect) for undone in one.undone][-2:] == [("VoidPayment", None), ("ReleaseStock", True)]


@pytest.mark.parametrize("mode", MODES)
def test_what_was_undone_before_anybody_asked_for_it_had_no_effect(mode: Mode) -> None:
    undone = {one.command: one.had_effect for one in failing(mode, "inventory:error")[0].undone}
    never_asked = {} if mode is Mode.ORCHESTRATOR else {"CancelDelivery": False, "VoidPayment": False}
    assert undone == never_asked | {"ReleaseStock": None}


@pytest.mark.parametrize("mode", MODES)
def test_a_step_that_was_undone_within_its_own_millisecond_was_undone_all_the_same(mode: Mode) -> None:
    """Both answers may come from one commit; which id is smaller is chance."""
    heard = journey(mode, "withdraw-payment-pending")
    (released,) = (seen.sent_at for seen in heard if seen.type == "inventory.StockReleased")
    late = [replace(seen, sent_at=released + 0.001) if seen.type == "inventory.StockReserved" else seen for seen in heard]
    undone = {one.command: one.had_effect for one in build_history(MESSAGE_FLOWS[mode], late).undone}
    assert undone["ReleaseStock"] is True


@pytest.mark.parametrize(
    ("name", "entry", "wait"),
    [
        ("pending", "PaymentAuthorized", "for the payment gateway"),
        ("gateway-hangs", "PaymentDeclined", "for a final answer of the payment gateway that never came"),
        ("inventory-down", "OrderWithdrawn", "until the order's own deadline"),
        ("inventory-down", "StockReserved", "until inventory reacted: down, held up or busy"),
        ("withdraw-payment-late", "PaymentDeclined", "put aside once for a later attempt at payment"),
    ],
)
@pytest.mark.parametrize("mode", MODES)
def test_a_long_pause_says_what_was_waited_for(mode: Mode, name: str, entry: str, wait: str) -> None:
    waits = [one.wait for one in told(mode, name).entries if one.name == entry]
    assert any(wait in (one or "") for one in waits), waits


@pytest.mark.parametrize(
    ("failure", "wait"),
    [
        (None, "2.3 s for payment or its gateway"),
        ("delivery:crash", "2.3 s for payment or its gateway"),
        ("payment:declined", "2.3 s for payment or its gateway"),
        ("payment:crash", "2.3 s: payment was told to crash (injected)"),
        ("payment:pending", "2.3 s for the payment gateway (injected: pending)"),
        ("payment:slow", "2.3 s for the payment gateway (injected: slow)"),
    ],
)
@pytest.mark.parametrize("mode", MODES)
def test_a_payment_that_took_long_is_blamed_on_what_was_injected_and_else_on_nobody_alone(
    mode: Mode, failure: str | None, wait: str
) -> None:
    assert waited(mode, journey(mode, "happy"), "payment.PaymentAuthorized", failure) == wait


@pytest.mark.parametrize(
    ("failure", "wait"),
    [
        ("inventory:crash", "2.3 s: inventory was told to crash (injected)"),
        ("inventory:slow", "2.3 s: inventory was told to be slow (injected)"),
        ("inventory:out_of_stock", "2.3 s until inventory reacted: down, held up or busy"),
    ],
)
@pytest.mark.parametrize("mode", MODES)
def test_a_step_that_took_long_is_blamed_on_what_was_injected(mode: Mode, failure: str, wait: str) -> None:
    assert waited(mode, journey(mode, "happy"), "inventory.StockReserved", failure) == wait


@pytest.mark.parametrize("mode", MODES)
def test_an_injected_crash_is_not_blamed_for_a_compensation_that_it_does_not_hit(mode: Mode) -> None:
    assert (
        waited(mode, journey(mode, "undeliverable"), "payment.PaymentVoided", "payment:crash")
        == "2.3 s for payment or its gateway"
    )


def waited(mode: Mode, whole: Sequence[Observation], type_name: str, failure: str | None) -> str | None:
    """The wait of the first message of a type, if it had come 2.3 s after its cause and `failure` was injected."""
    whole = [replace(one, injected=failure) for one in whole]
    late = next(one for one in whole if one.type == type_name)
    cause = next(one for one in whole if one.message_id == late.cause)
    one = heard(mode, [replace(one, sent_at=cause.sent_at + 2.3) if one is late else one for one in whole])
    return next(entry.wait for entry in one.entries if entry.type == type_name)


@pytest.mark.parametrize("mode", MODES)
def test_an_order_under_way_says_who_was_told_and_what_remains(mode: Mode) -> None:
    one = heard(mode, upto(mode, "happy", "inventory.StockReserved", "payment.AuthorizePayment"))
    assert one.state == "PENDING"
    assert [waiting.worker for waiting in one.waiting] == ["payment"]
    assert one.remains == ("AuthorizePayment", "ScheduleDelivery", "CompleteOrder")
    if mode is Mode.CHOREOGRAPHY:
        assert one.remains_note == "inferred: nobody knows the sequence in choreography"
    else:
        assert one.remains_note is None


def test_what_choreography_cannot_know_of_a_withdrawn_order_it_says() -> None:
    one = heard(Mode.CHOREOGRAPHY, upto(Mode.CHOREOGRAPHY, "withdraw-payment-late", "order.OrderWithdrawn"))
    assert one.remains == ("CancelDelivery", "VoidPayment", "ReleaseStock", "RejectOrder")
    assert "nor how far the order got" in str(one.remains_note)


@pytest.mark.parametrize("mode", MODES)
def test_a_call_for_help_makes_it_need_attention_until_it_moves(mode: Mode) -> None:
    begun = upto(mode, "declined", "payment.PaymentDeclined")
    last = begun[-1]
    facts = {"step": "ReleaseStock", "error": "no shelf"}
    cry = replace(
        last, message_id=_id(1), type="inventory.InventoryStepFailed", sender="inventory", facts=facts, sent_at=last.sent_at + 1
    )
    moved = replace(cry, message_id=_id(2), type="inventory.StockReleased", facts={}, sent_at=last.sent_at + 2)
    one = heard(mode, [*begun, cry])
    assert (one.state, one.reason) == (NEEDS_ATTENTION, "ReleaseStock: no shelf")
    assert one.why.startswith("inventory: ReleaseStock has failed for good: no shelf")
    assert one.stuck(one.moved_at, stuck_after_s=30.0)
    assert heard(mode, [*begun, cry, moved]).state == "PENDING"


#: An order that cannot be undone, in both modes, and what the service says that could not do it once it has.
STUCK = [
    (mode, failure, answer)
    for mode in MODES
    for failure, answer in (("payment:void_error", "payment.PaymentVoided"), ("inventory:undo_error", "inventory.StockReleased"))
]


@pytest.mark.parametrize(("mode", "failure", "answer"), STUCK)
def test_a_withdrawal_that_is_said_again_answers_no_call_for_help_but_the_callers_own_answer_does(
    mode: Mode, failure: str, answer: str
) -> None:
    whole = overdue(mode, "delivery:undeliverable", failure)
    for count in range(next(n for n, seen in enumerate(whole) if seen.type.endswith("StepFailed")) + 1, len(whole) + 1):
        one = heard(mode, list(whole[:count]))
        assert one.state == NEEDS_ATTENTION, whole[count - 1].type
    last = whole[-1]
    answered = replace(last, message_id=_id(1), type=answer, sender=answer.partition(".")[0], facts={}, sent_at=last.sent_at + 1)
    one = heard(mode, [*whole, answered])
    assert (one.state, one.reason) == ("PENDING", None)
    assert "has failed for good" not in one.why


@pytest.mark.parametrize("mode", MODES)
def test_two_services_that_call_for_help_must_both_answer(mode: Mode) -> None:
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
    states = [(one.state, one.reason) for one in (heard(mode, begun + calls[:count]) for count in range(1, 5))]
    assert states == [
        (NEEDS_ATTENTION, "VoidPayment: no"),
        (NEEDS_ATTENTION, "CancelDelivery: no car"),
        (NEEDS_ATTENTION, "VoidPayment: no"),
        ("PENDING", None),
    ]


@pytest.mark.parametrize("mode", MODES)
def test_an_order_that_only_says_again_that_it_is_withdrawn_does_not_move_and_waits_once_for_each_deed(mode: Mode) -> None:
    whole = overdue(mode, "delivery:undeliverable", "payment:void_error")
    calm = [seen for seen in whole if not seen.type.endswith("StepFailed")]
    one = heard(mode, calm)
    assert one.state == "PENDING"
    assert [(waiting.worker, waiting.deed) for waiting in one.waiting] == [("payment", "VoidPayment")]
    said = [entry.at for entry in one.entries if entry.name == "OrderWithdrawn"]
    assert len(said) == OFTEN
    assert one.moved_at < said[1]
    assert one.stuck(said[-1], stuck_after_s=said[-1] - said[1])


@pytest.mark.parametrize("mode", MODES)
def test_the_wait_of_a_withdrawal_that_is_said_again_is_the_time_since_it_was_said_before(mode: Mode) -> None:
    said = [
        entry
        for entry in heard(mode, list(overdue(mode, "delivery:undeliverable", "payment:void_error"))).entries
        if entry.name == "OrderWithdrawn"
    ]
    assert said[0].wait == f"{said[0].since_start_s:.1f} s until the order's own deadline", "whatever the order heard last"
    assert {entry.deed for entry in said} == {None}
    for before, again in pairwise(said):
        assert again.wait == f"{again.at - before.at:.1f} s until it was said again: the order had not ended"


@pytest.mark.parametrize("mode", MODES)
def test_before_a_call_for_help_the_service_was_not_away_but_tried(mode: Mode) -> None:
    whole = overdue(mode, "delivery:undeliverable", "payment:void_error")
    wait = waited(mode, whole, "payment.PaymentStepFailed", None)
    assert wait == "2.3 s until payment called for help: it had tried VoidPayment in vain"


def _id(number: int) -> str:
    return f"019b0000-0000-7000-8000-{number:012x}"


@pytest.mark.parametrize("mode", MODES)
def test_an_open_order_is_stuck_when_nothing_has_moved_it_for_long(mode: Mode) -> None:
    one = heard(mode, upto(mode, "happy", "inventory.StockReserved"))
    assert not one.stuck(one.moved_at + 29, stuck_after_s=30.0)
    assert one.stuck(one.moved_at + 31, stuck_after_s=30.0)
    assert not told(mode, "happy").stuck(one.moved_at + 1e6, stuck_after_s=30.0)


@pytest.mark.parametrize("mode", MODES)
def test_a_dead_letter_that_nothing_followed_is_the_root_cause(mode: Mode) -> None:
    begun = upto(mode, "happy", "inventory.StockReserved", "payment.AuthorizePayment")
    dead = replace(begun[-1], dead="attempts_exhausted", attempt=5)
    one = heard(mode, [*begun, dead])
    assert f"{one.entries[-1].name} is a dead letter of payment: attempts_exhausted" in one.why


# --- what is missing ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("mode", "name"), TELLING)
def test_a_message_that_was_not_heard_but_had_an_effect_is_a_gap_that_is_named(mode: Mode, name: str) -> None:
    whole = journey(mode, name)
    for missing in {observation.message_id for observation in whole}:
        rest = [observation for observation in whole if observation.message_id != missing]
        kind = next(observation.type for observation in whole if observation.message_id == missing).partition(".")[2]
        had_effect = any(observation.cause == missing for observation in rest)
        gaps = heard(mode, rest).gaps
        assert len(gaps) == had_effect
        assert all(kind in gap.partition(" was not heard")[0] for gap in gaps), gaps


@pytest.mark.parametrize("mode", MODES)
def test_messages_lost_while_an_order_was_under_way_make_a_gap_and_others_do_not(mode: Mode) -> None:
    whole = list(journey(mode, "pending"))
    began, ended = whole[0].sent_at, whole[-1].sent_at
    assert not heard(mode, whole, LossPeriod(began - 9, began - 1), LossPeriod(ended + 1, ended + 9)).gaps
    assert "lost messages" in heard(mode, whole, LossPeriod(began + 1, began + 2)).gaps[0]
    unended = heard(mode, whole[:3], LossPeriod(ended + 1, ended + 9))
    assert "lost messages" in unended.gaps[0]
    assert unended.remains_note == "messages are missing: some of this may have been done"


# --- whatever the order in which it is heard ------------------------------------------------------------------------------


@pytest.mark.parametrize(("mode", "name"), TELLING)
@given(data=st.data())
def test_order_and_number_of_arrivals_make_no_difference(mode: Mode, name: str, data: st.DataObject) -> None:
    whole = list(journey(mode, name))
    again = data.draw(st.lists(st.sampled_from(whole), max_size=8))
    assert heard(mode, data.draw(st.permutations(whole + again))) == heard(mode, whole)


@pytest.mark.parametrize(("mode", "name"), TELLING)
@given(data=st.data())
def test_whatever_is_missing_and_whatever_the_clocks_say_causes_come_first(mode: Mode, name: str, data: st.DataObject) -> None:
    whole = list(journey(mode, name))
    some = data.draw(st.lists(st.sampled_from(whole), min_size=1))
    skewed = [replace(one, sent_at=one.sent_at + data.draw(st.integers(-60, 60))) for one in some]
    one = heard(mode, skewed)
    assert [entry.number for entry in one.entries] == list(range(1, len({seen.message_id for seen in some}) + 1))
    for entry in one.entries:
        assert entry.cause is None or one.entries[entry.cause - 1].at <= entry.at
        assert not (entry.cause and entry.missing_cause)


def test_messages_that_cause_each_other_are_told_all_the_same() -> None:
    one, other, *_ = journey(Mode.ORCHESTRATOR, "happy")
    circle = [replace(one, cause=other.message_id), replace(other, cause=one.message_id)]
    assert heard(Mode.ORCHESTRATOR, circle) == heard(Mode.ORCHESTRATOR, circle[::-1])


@pytest.mark.parametrize("mode", MODES)
def test_a_sighting_survives_its_store(mode: Mode) -> None:
    for name in JOURNEYS:
        for observation in journey(mode, name):
            assert Observation.from_body(observation.to_body()) == observation
