"""Planted bugs: a reaction dropped or added, a handler wrapped, `advance` replaced, or another gateway.

A bug changes the roles that a world is built from, or its gateway; the product has no switch for it. The bugs that remove a rule
are in rule_bugs.py.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from broker.handler import NOTHING, Context, Documents, Handle, Outcome
from broker.message import Command, Event, Message
from broker.role import Role
from choreography.reaction import Reaction
from choreography.reactions import REACTIONS
from orchestrator.coordinator import NAME
from orchestrator.saga import SagaRun, Transition
from services.delivery.messages import DeliveryCancelled, DeliveryRejected
from services.inventory.messages import ReleaseStock
from services.order.messages import OrderWithdrawn, RejectOrder
from services.payment.messages import PaymentDeclined, PaymentVoided, VoidPayment
from tests.support.protocol.gateway_model import GatewayModel
from tests.support.protocol.world import MODES

Roles = tuple[Role, ...]
Change = Callable[[Roles], Roles]


def no_change(roles: Roles) -> Roles:
    return roles


@dataclass(frozen=True, slots=True)
class Bug:
    """One planted bug. `breaks`: guarantees of which one must be found broken; `modes`: the modes in which that must happen."""

    name: str
    breaks: frozenset[str]
    change: Change = no_change
    gateway: type[GatewayModel] = GatewayModel
    modes: tuple[str, ...] = ("orchestrator", "choreography")

    def roles(self, mode: str) -> Roles:
        return self.change(MODES[mode])


def dropped(reaction: Reaction) -> Bug:
    """A choreography without one row: an order hangs."""

    def without_reaction(role: Role) -> Role:
        return replace(role, accepts={kind: meaning for kind, meaning in role.accepts.items() if kind is not reaction.when})

    def change(roles: Roles) -> Roles:
        return tuple(without_reaction(role) if role.worker == reaction.by else role for role in roles)

    name = f"no {reaction.when.__name__} -> {reaction.by} {reaction.does.__name__}"
    return Bug(name, frozenset({"G3"}), change, modes=("choreography",))


def short_cut(when: type[Event], does: type[Command], *breaks: str) -> Bug:
    """A choreography with one more row, which the constructor of Reaction accepts."""
    reaction = Reaction(when, does.service, does)

    def with_reaction(role: Role) -> Role:
        assert when not in role.accepts, "the short cut would replace a row instead of adding one"
        return replace(role, accepts={**role.accepts, when: does.from_source})

    def change(roles: Roles) -> Roles:
        return tuple(with_reaction(role) if role.worker == reaction.by else role for role in roles)

    return Bug(f"{when.__name__} -> {reaction.by} {does.__name__}", frozenset(breaks), change, modes=("choreography",))


DROPPED = tuple(dropped(reaction) for reaction in REACTIONS)

SHORT_CUTS = (
    short_cut(OrderWithdrawn, VoidPayment, "G1", "G2"),
    short_cut(OrderWithdrawn, ReleaseStock, "G1", "G2"),
    short_cut(OrderWithdrawn, RejectOrder, "G1", "never"),
    short_cut(DeliveryRejected, ReleaseStock, "G2"),
    short_cut(DeliveryCancelled, ReleaseStock, "G1", "G2"),
    short_cut(PaymentDeclined, RejectOrder, "G1"),
    # The same for rejections, one step further in the chain:
    short_cut(DeliveryRejected, RejectOrder, "G1"),
    short_cut(DeliveryCancelled, RejectOrder, "G1"),
    short_cut(PaymentVoided, RejectOrder, "G1"),
)


def wrapped(kind: type[Message], wrap: Callable[[Handle], Handle]) -> Change:
    """Roles in which the handler of `kind` is wrapped; the keys that it requires stay the same."""

    def with_handler(role: Role) -> Role:
        real = role.service.handlers[kind]
        handlers = {**role.service.handlers, kind: replace(real, handle=wrap(real.handle))}
        return replace(role, service=replace(role.service, handlers=handlers))

    def change(roles: Roles) -> Roles:
        return tuple(with_handler(role) if kind in role.service.handlers else role for role in roles)

    return change


def with_advance(decide_transition: Callable[[SagaRun | None, Event], Transition | None]) -> Change:
    """Roles whose coordinator uses another function in place of `advance`."""

    def follow(event: Event, documents: Documents, _: Context) -> Outcome:
        transition = decide_transition(documents.get(SagaRun, event.order_id), event)
        if transition is None:
            return NOTHING
        run, command = transition
        return Outcome((run,), (command,) if command else ())

    def with_coordinator(role: Role) -> Role:
        handlers = {kind: replace(real, handle=follow) for kind, real in role.service.handlers.items()}
        return replace(role, service=replace(role.service, handlers=handlers))

    def change(roles: Roles) -> Roles:
        return tuple(with_coordinator(role) if role.worker == NAME else role for role in roles)

    return change
