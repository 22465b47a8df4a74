"""What an order holds and which commands remain: from the saga run, and inferred from four databases in choreography.

That both modes and the HTTP API agree in running systems is tested in tests/api/test_orders.py.
"""

from dataclasses import replace
from typing import Any

import pytest

from bootstrap.modes import Mode
from ops import pending_work
from ops.pending_work import held_resources, pending_commands
from ops.snapshot import Snapshot
from orchestrator.fulfilment import FULFILMENT
from orchestrator.saga import Phase, SagaRun, Step
from services.delivery.domain import DeliveryState, OrderDelivery
from services.inventory.domain import Reservation, ReservationState
from services.order.domain import Order, OrderState
from services.payment.domain import Payment, PaymentState
from services.vocabulary import BackwardCommand, BackwardEvent, ForwardCommand, ForwardEvent, Reason

ORDER_ID = "019b0000-0000-7000-8000-000000000001"
HELD, RELEASED = ReservationState.HELD, ReservationState.RELEASED
PENDING, AUTHORIZED = PaymentState.PENDING, PaymentState.AUTHORIZED
SCHEDULED, CANCELLED = DeliveryState.SCHEDULED, DeliveryState.CANCELLED


class WrapGift(ForwardCommand, service="gifts"):
    """A command of a service that the snapshot has no documents of."""


class GiftWrapped(ForwardEvent, service="gifts"):
    """The success of WrapGift."""


class UnwrapGift(BackwardCommand, service="gifts"):
    """The compensation of WrapGift."""


class GiftUnwrapped(BackwardEvent, service="gifts"):
    """The answer to UnwrapGift."""


def snapshot_of(
    reservation: ReservationState | None = None,
    payment: PaymentState | None = None,
    delivery: DeliveryState | None = None,
    **order: Any,
) -> Snapshot:
    """One order and those of its documents whose state is given."""
    whole = Order(**{"order_id": ORDER_ID, "state": OrderState.PENDING} | order)
    return Snapshot(
        orders={ORDER_ID: whole},
        reservations={ORDER_ID: Reservation(order_id=ORDER_ID, state=reservation, quantities={"book": 2})} if reservation else {},
        payments={ORDER_ID: Payment(order_id=ORDER_ID, state=payment)} if payment else {},
        deliveries={ORDER_ID: OrderDelivery(order_id=ORDER_ID, state=delivery)} if delivery else {},
    )


FORWARD = ["ReserveStock", "AuthorizePayment", "ScheduleDelivery", "CompleteOrder"]
BACKWARD = ["CancelDelivery", "VoidPayment", "ReleaseStock", "RejectOrder"]


@pytest.mark.parametrize(
    ("states", "remaining"),
    [
        ((), FORWARD),
        ((HELD,), FORWARD[1:]),
        ((HELD, PENDING), FORWARD[1:]),
        ((HELD, AUTHORIZED), FORWARD[2:]),
        ((HELD, AUTHORIZED, SCHEDULED), FORWARD[3:]),
        ((ReservationState.REJECTED,), ["VoidPayment", "RejectOrder"]),
        ((HELD, PaymentState.DECLINED), ["ReleaseStock", "RejectOrder"]),
        ((HELD, PaymentState.VOIDING), ["VoidPayment", "ReleaseStock", "RejectOrder"]),
        ((HELD, AUTHORIZED, DeliveryState.REJECTED), ["VoidPayment", "ReleaseStock", "RejectOrder"]),
        ((HELD, PaymentState.VOIDED, DeliveryState.REJECTED), ["ReleaseStock", "RejectOrder"]),
        ((RELEASED, PaymentState.VOIDED, DeliveryState.REJECTED), ["RejectOrder"]),
    ],
)
def test_in_choreography_the_documents_show_what_remains(states: tuple[Any, ...], remaining: list[str]) -> None:
    assert pending_commands(Mode.CHOREOGRAPHY, snapshot_of(*states), ORDER_ID) == remaining


@pytest.mark.parametrize(
    ("states", "remaining"),
    [
        ((), BACKWARD),
        ((HELD, AUTHORIZED), BACKWARD),
        ((HELD, AUTHORIZED, CANCELLED), BACKWARD[1:]),
        ((HELD, PaymentState.VOIDED, CANCELLED), BACKWARD[2:]),
        ((RELEASED, PaymentState.VOIDED, CANCELLED), BACKWARD[3:]),
        ((HELD, AUTHORIZED, SCHEDULED), ["CompleteOrder"]),
    ],
)
def test_in_choreography_a_withdrawal_is_undone_from_the_pivot(states: tuple[Any, ...], remaining: list[str]) -> None:
    withdrawn = snapshot_of(*states, withdrawn=Reason.WITHDRAWN)
    assert pending_commands(Mode.CHOREOGRAPHY, withdrawn, ORDER_ID) == remaining


@pytest.mark.parametrize(
    ("phase", "step", "remaining"),
    [
        (Phase.AT, 0, FORWARD),
        (Phase.AT, 2, FORWARD[2:]),
        (Phase.UNDO, 2, BACKWARD),
        (Phase.UNDO, 0, BACKWARD[2:]),
        (Phase.ENDING, 0, BACKWARD[3:]),
        (Phase.DONE, 0, []),
    ],
)
def test_in_orchestrator_the_saga_run_says_what_remains(phase: Phase, step: int, remaining: list[str]) -> None:
    snapshot = replace(snapshot_of(), sagas={ORDER_ID: SagaRun(order_id=ORDER_ID, phase=phase, step=step)})
    assert pending_commands(Mode.ORCHESTRATOR, snapshot, ORDER_ID) == remaining


def test_in_orchestrator_every_step_remains_before_the_saga_begins() -> None:
    assert pending_commands(Mode.ORCHESTRATOR, snapshot_of(), ORDER_ID) == FORWARD


@pytest.mark.parametrize("mode", list(Mode))
def test_an_order_that_ended_or_does_not_exist_has_nothing_pending(mode: Mode) -> None:
    assert pending_commands(mode, snapshot_of(HELD, AUTHORIZED, SCHEDULED, state=OrderState.COMPLETED), ORDER_ID) == []
    assert pending_commands(mode, Snapshot(), ORDER_ID) == []


@pytest.mark.parametrize("mode", list(Mode))
def test_a_tombstone_waits_for_its_order(mode: Mode) -> None:
    (pending,) = pending_commands(mode, snapshot_of(state=OrderState.TOMBSTONE), ORDER_ID)
    assert pending.startswith("PlaceOrder (")


def test_steps_are_found_by_service_and_not_by_position(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a saga with payment first and a step of another service, whose documents the snapshot does not have."""
    reserve, authorize, schedule, complete = FULFILMENT.steps
    wrap = Step(WrapGift, GiftWrapped, undo=UnwrapGift, undone=GiftUnwrapped)
    monkeypatch.setattr(pending_work, "FULFILMENT", replace(FULFILMENT, steps=(authorize, wrap, reserve, schedule, complete)))
    forward = pending_commands(Mode.CHOREOGRAPHY, snapshot_of(HELD), ORDER_ID)
    assert forward == ["AuthorizePayment", "WrapGift", "ScheduleDelivery", "CompleteOrder"]
    backward = pending_commands(Mode.CHOREOGRAPHY, snapshot_of(RELEASED, AUTHORIZED, withdrawn=Reason.WITHDRAWN), ORDER_ID)
    assert backward == ["CancelDelivery", "UnwrapGift", "VoidPayment", "RejectOrder"]


@pytest.mark.parametrize(
    ("states", "held"),
    [
        ((), {}),
        ((HELD, PENDING), {"stock": {"book": 2}, "payment": "PENDING"}),
        (
            (HELD, AUTHORIZED, SCHEDULED),
            {"stock": {"book": 2}, "payment": "AUTHORIZED", "delivery": "SCHEDULED"},
        ),
        ((RELEASED, PaymentState.VOIDED, CANCELLED), {}),
    ],
)
def test_held_resources_are_stock_payment_and_delivery(states: tuple[Any, ...], held: dict[str, object]) -> None:
    assert held_resources(snapshot_of(*states), ORDER_ID) == held
