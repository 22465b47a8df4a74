"""The body of an order request, and the description of a lane."""

from collections.abc import Callable
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from api.sample_orders import SAMPLE_ADDRESS, LoadPlan, sample_order
from bootstrap.modes import Mode, roles
from broker.message import Uuid
from choreography.reactions import REACTIONS
from dashboard.fault_menu import CUSTOMER_WITHDRAWS, fault_shares
from dashboard.lanes.lane import OrderToPlace, columns_of
from orchestrator.fulfilment import FULFILMENT
from services.vocabulary import MAX_LINES, BackwardCommand, Line, Text

#: Maximum orders in one request, orders in one response, and failures in one request.
COUNT_MAX, SHOWN_MAX, FAILURES_MAX = 500, 200, 8
#: Larger integers are not exact in JavaScript.
SEED_MAX = 2**53

FaultText = Annotated[
    str, StringConstraints(pattern=r"^[a-z_]{1,32}:[a-z_]{1,32}(,[a-z_]{1,32}:[a-z_]{1,32}){0,3}(=[0-9.]{1,8}%)?$")
]


class OrderRequest(BaseModel):
    """The body of POST /watch/orders. `failures` may carry a share (`payment:declined=30%`).

    With a `count` of more than 1, lines and failures are generated from `seed` as in a storm, and `lines` is ignored. A single
    order may have an `order_id`: its id in the lane of another API."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    lines: Annotated[tuple[Line, ...], Field(max_length=MAX_LINES, strict=False)] = ()
    customer: Text = SAMPLE_ADDRESS.name
    failures: Annotated[tuple[FaultText, ...], Field(max_length=FAILURES_MAX, strict=False)] = ()
    modes: Annotated[tuple[str, ...], Field(min_length=1, max_length=len(Mode), strict=False)] | None = None
    count: Annotated[int, Field(ge=1, le=COUNT_MAX)] = 1
    seed: Annotated[int, Field(ge=0, le=SEED_MAX)] | None = None
    order_id: Uuid | None = None

    def generate(self, seed: int, new_id: Callable[[], str]) -> list[OrderToPlace]:
        """The orders to place. The same seed gives the same failures. Raises services.faults.InvalidFault."""
        plan = LoadPlan(
            self.count, self.count, failures=fault_shares(self.failures), seed=seed if self.seed is None else self.seed
        )
        address = SAMPLE_ADDRESS.model_copy(update={"name": self.customer})
        to_place = []
        for number in range(self.count):
            failures = [part for name in plan.faults_of(number) for part in name.split(",")]
            details = sample_order(self.lines if self.count == 1 else plan.details_of(number).lines, address)
            injected = tuple(failure for failure in failures if failure != CUSTOMER_WITHDRAWS)
            to_place.append(OrderToPlace(self.order_id or new_id(), details, injected, withdrawn=CUSTOMER_WITHDRAWS in failures))
        return to_place


def lane_description(mode: Mode, *, events: str, can_kill: bool) -> dict[str, Any]:
    """A lane's participants, and its steps (orchestrator) or reactions (choreography).

    `events`: the path of its event stream."""
    orchestrated = mode is Mode.ORCHESTRATOR
    return {
        "mode": mode,
        "columns": columns_of(mode),
        "workers": list(roles(mode)),
        "events": events,
        "can_kill": can_kill,
        "steps": _steps() if orchestrated else None,
        "reactions": None if orchestrated else _reactions(),
    }


def _steps() -> list[dict[str, Any]]:
    parts = ("command", "success", "refused", "undo", "undone")
    return [
        {
            **{part: kind.__name__ if (kind := getattr(step, part)) else None for part in parts},
            "service": step.command.service,
            "kind": "pivot" if step.pivot else "retriable" if step.retriable else "compensatable",
        }
        for step in FULFILMENT.steps
    ]


def _reactions() -> list[dict[str, Any]]:
    return [
        {
            "when": reaction.when.__name__,
            "by": reaction.by,
            "does": reaction.does.__name__,
            "rollback": issubclass(reaction.does, BackwardCommand),
        }
        for reaction in REACTIONS
    ]
