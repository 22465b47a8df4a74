"""Plays a schedule by hand: a counterexample of docs/protocol.md#counterexamples reads like a script of who handles what, in which order.

The same script plays in both modes. A step names the command that a service handles, whatever the wire
carries for it; in the orchestrator's mode the coordinator hears, oldest first, what it must have heard for that command to
exist, and nothing more. What a script does not mention has not arrived yet.
"""

from collections.abc import Callable

from broker.message import Command, Event
from lab.invariants import check_end
from orchestrator.coordinator import NAME
from services.order.messages import PlaceOrder, WithdrawOrder
from services.payment.domain import Payment
from services.payment.messages import Verb
from services.vocabulary import Reason
from tests.support.protocol.bugs import Bug
from tests.support.protocol.driver import decisions
from tests.support.protocol.gateway_model import GatewayModel
from tests.support.protocol.scenario import Plan
from tests.support.protocol.world import Item, Parcel, Reply, Request, World

#: Steps after which a drain gives up: something goes round in circles.
DRAIN_STEPS = 200


def world_of(mode: str, stock: dict[str, int], *plans: Plan, bug: Bug | None = None) -> World:
    """A world in which these orders may be placed; with `bug`, in which a rule is missing."""
    decisions_of = {plan.order_id: plan.gateway for plan in plans}
    gateway = bug.gateway(decisions_of) if bug else GatewayModel(decisions_of)
    return World(mode, gateway, stock, roles=bug.roles(mode) if bug else None)


class Script:
    """The schedule of one order."""

    def __init__(self, world: World, plan: Plan) -> None:
        self.world = world
        self.plan = plan
        self._handled: list[Parcel] = []
        world.publish(PlaceOrder(order_id=plan.order_id, details=plan.details))

    # -- what arrives

    def handles(self, *commands: type[Command]) -> None:
        """Whoever each command is for handles it, one after the other."""
        for command in commands:
            parcel = self._bring(command)
            assert parcel, f"no {command.__name__} is on its way: {self._waiting()}"
            self._take(parcel)

    def handles_if_asked(self, *commands: type[Command]) -> None:
        """The same where the command exists: it does not if a rule has seen to it."""
        for command in commands:
            if parcel := self._bring(command):
                self._take(parcel)

    def handles_in(self, mode: str, *commands: type[Command]) -> None:
        """A part of the schedule that only one mode has."""
        if self.world.mode == mode:
            self.handles(*commands)

    def handles_again(self, command: type[Command]) -> None:
        """A duplicate: what was handled arrives once more, and no inbox stops it."""
        parcel = next(parcel for parcel in self._handled if type(parcel.command) is command)
        self.world.take(parcel)

    def coordinator_hears(self, event: type[Event]) -> None:
        """The coordinator hears this event before anything else; in choreography nobody does."""
        if self.world.mode == "orchestrator":
            parcel = self._first(lambda item: isinstance(item, Parcel) and item.to == NAME and type(item.message) is event)
            assert parcel, f"no {event.__name__} is on its way: {self._waiting()}"
            self._take(parcel)

    def on_its_way(self, message: type[Command]) -> bool:
        """Whether this command has been asked for and not handled; the coordinator hears what leads to it."""
        return self._bring(message) is not None

    def dies_calling(self, command: type[Command]) -> None:
        """The payment worker handles this command, calls the gateway, and dies before its commit."""
        parcel = self._bring(command)
        assert parcel, f"no {command.__name__} is on its way: {self._waiting()}"
        self.world.die_before_commit(parcel)

    def gateway_handles(self, verb: Verb) -> None:
        """The oldest call with this verb reaches the gateway; its answer is on its way."""
        request = self._first(lambda item: isinstance(item, Request) and item.call.verb is verb)
        assert request, f"no {verb} is on its way: {self._waiting()}"
        self._take(request)

    def payment_hears(self) -> None:
        """The oldest answer of the gateway reaches payment."""
        reply = self._first(lambda item: isinstance(item, Reply))
        assert reply, f"no answer is on its way: {self._waiting()}"
        self._take(reply)

    # -- what nobody sends

    def withdraws(self) -> None:
        """The customer withdraws, and the order service handles that at once."""
        self.world.publish(WithdrawOrder(order_id=self.plan.order_id, reason=Reason.WITHDRAWN))
        self.handles(WithdrawOrder)

    def deadline_passes(self) -> None:
        self.world.deadline_passes(self.plan.order_id)

    def patience_ends(self) -> None:
        self.world.patience_ends(self.plan.order_id)

    # -- the end

    def drain(self) -> None:
        """Everything that is on its way arrives, oldest first; payment asks again what was not answered."""
        for _ in range(DRAIN_STEPS):
            if item := self._first(lambda _: True):
                self._take(item)
                continue
            payment = self.world.find(Payment, self.plan.order_id)
            if payment is None or payment.due_at is None:
                return
            self.world.poll_gateway(self.plan.order_id)

    def ends_as(self, **states: str) -> None:
        """Drained, the order has ended as its decisions say (G3, G5), and these are the states: `order="REJECTED(deadline)"`."""
        self.drain()
        now = self.world.order_snapshot(self.plan.order_id)
        check_end(now, decisions(self.world, self.plan))
        self.stands(**states)

    def stands(self, **states: str) -> None:
        """These are the states at this moment."""
        now = self.world.order_snapshot(self.plan.order_id)
        found = now.states()
        if now.order and now.order.reason:
            found["order"] += f"({now.order.reason.value})"
        assert {name: found[name] for name in states} == states, "\n".join(self.world.trace)

    # -- the bag

    def _bring(self, command: type[Command]) -> Parcel | None:
        """The oldest parcel that means this command; the coordinator hears what is waiting, until there is one."""
        while True:
            for item in self._mine():
                if isinstance(item, Parcel) and item.to != NAME and type(item.command) is command:
                    return item
            heard = self._first(lambda item: isinstance(item, Parcel) and item.to == NAME)
            if heard is None:
                return None
            self._take(heard)

    def _take(self, item: Item) -> None:
        self.world.bag.remove(item)
        if isinstance(item, Parcel):
            self._handled.append(item)
        self.world.take(item)

    def _first(self, wanted: Callable[[Item], bool]) -> Item | None:
        return next((item for item in self._mine() if wanted(item)), None)

    def _mine(self) -> list[Item]:
        """What is on its way for this order, oldest first."""
        return sorted((item for item in self.world.bag if _order_of(item) == self.plan.order_id), key=lambda item: item.rank)

    def _waiting(self) -> str:
        return "; ".join(str(item) for item in self._mine()) or "nothing is"


def _order_of(item: Item) -> str:
    if isinstance(item, Parcel):
        return item.message.order_id
    return item.call.order_id if isinstance(item, Request) else item.answer.order_id
