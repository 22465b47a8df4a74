"""The steps that an order still has to go through, at each stage and in both modes."""

from collections.abc import Sequence

import pytest

from orchestrator.fulfilment import FULFILMENT
from orchestrator.remaining_steps import remaining_steps

RESERVE, AUTHORIZE, SCHEDULE, COMPLETE = FULFILMENT.steps
BEGUN = "order.OrderPlaced"
RESERVED, AUTHORIZED, SCHEDULED, COMPLETED = (step.success.type_name for step in FULFILMENT.steps)
DECLINED, UNDELIVERABLE = (step.refused.type_name for step in (AUTHORIZE, SCHEDULE) if step.refused)
VOIDED = "payment.PaymentVoided"
WITHDRAWN = "order.OrderWithdrawn"


@pytest.mark.parametrize(
    ("events", "orchestrator", "choreography"),
    [
        ([BEGUN], "ReserveStock AuthorizePayment ScheduleDelivery CompleteOrder", None),
        ([BEGUN, RESERVED], "AuthorizePayment ScheduleDelivery CompleteOrder", None),
        ([BEGUN, RESERVED, AUTHORIZED, SCHEDULED], "CompleteOrder", None),
        ([BEGUN, RESERVED, DECLINED], "ReleaseStock RejectOrder", None),
        ([BEGUN, RESERVED, AUTHORIZED, UNDELIVERABLE], "VoidPayment ReleaseStock RejectOrder", None),
        ([BEGUN, RESERVED, AUTHORIZED, UNDELIVERABLE, VOIDED], "ReleaseStock RejectOrder", None),
        (
            [BEGUN, RESERVED, WITHDRAWN],
            "VoidPayment ReleaseStock RejectOrder",
            "CancelDelivery VoidPayment ReleaseStock RejectOrder",
        ),
        (
            [BEGUN, RESERVED, AUTHORIZED, WITHDRAWN],
            "CancelDelivery VoidPayment ReleaseStock RejectOrder",
            None,
        ),
        ([WITHDRAWN], "ReleaseStock RejectOrder", "CancelDelivery VoidPayment ReleaseStock RejectOrder"),
        ([BEGUN, RESERVED, AUTHORIZED, SCHEDULED, WITHDRAWN], "CompleteOrder", None),
    ],
)
def test_what_remains_follows_from_the_events(events: Sequence[str], orchestrator: str, choreography: str | None) -> None:
    """`choreography` is None where both modes have the same steps left."""
    withdrawn = WITHDRAWN in events
    assert remaining_steps(events, withdrawn=withdrawn, pivot_first=False) == orchestrator.split()
    assert remaining_steps(events, withdrawn=withdrawn, pivot_first=True) == (choreography or orchestrator).split()


@pytest.mark.parametrize("pivot_first", [False, True])
@pytest.mark.parametrize("refused", [[], [UNDELIVERABLE]])
def test_nothing_remains_of_a_withdrawn_order_with_all_steps_done(refused: Sequence[str], *, pivot_first: bool) -> None:
    events = [BEGUN, RESERVED, AUTHORIZED, SCHEDULED, COMPLETED, WITHDRAWN, *refused]
    assert remaining_steps(events, withdrawn=True, pivot_first=pivot_first) == []
