"""Schedules by hand: a counterexample of docs/protocol.md#counterexamples as a script of what is handled, in which order.

The same script plays in both modes. A step names the command that a service handles, whichever message carries it. In the
orchestrated mode the coordinator receives, oldest first, the events that lead to that command, and no more. What a script does
not mention has not arrived yet.
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
from tests.support.protocol.world import Item, QueuedMessage, Reply, Request, World

#: Steps of a drain at most.
DRAIN_STEPS = 200


def world_of(mode: str, stock: dict[str, int], *plans: Plan, bug: Bug | None = None) -> World:
    """A world for these orders; with `bug`, one in which a rule is missing."""
    decisions_of = {plan.order_id: plan.gateway for plan in plans}
    gateway = bug.gateway(decisions_of) if bug else GatewayModel(decisions_of)
    return World(mode, gateway, stock, roles=bug.roles(mode) if bug else None)


class Script:
    """The schedule of one order."""

    def __init__(self, world: World, plan: Plan) -> None:
        self.world = world
        self.plan = plan
        self._handled: list[QueuedMessage] = []
        world.publish(PlaceOrder(order_id=plan.order_id, details=plan.details))

    # -- messages and calls

    def handles(self, *commands: type[Command]) -> None:
        """Each command is handled by its service, one after the other."""
        for command in commands:
            message = self._next_for(command)
            assert message, f"no {command.__name__} is on its way: {self._waiting()}"
            self._deliver(message)

    def handles_if_pending(self, *commands: type[Command]) -> None:
        """The same for commands that are in flight: with the rules, some are not."""
        for command in commands:
            if message := self._next_for(command):
                self._deliver(message)

    def handles_in(self, mode: str, *commands: type[Command]) -> None:
        """A part of the schedule that only one mode has."""
        if self.world.mode == mode:
            self.handles(*commands)

    def handles_again(self, command: type[Command]) -> None:
        """A duplicate: a message that was handled is delivered again, and there is no inbox to drop it."""
        message = next(message for message in self._handled if type(message.command) is command)
        self.world.deliver(message)

    def coordinator_receives(self, event: type[Event]) -> None:
        """The coordinator receives this event before any other. Does nothing in choreography."""
        if self.world.mode == "orchestrator":
            message = self._first(
                lambda item: isinstance(item, QueuedMessage) and item.to == NAME and type(item.message) is event
            )
            assert message, f"no {event.__name__} is on its way: {self._waiting()}"
            self._deliver(message)

    def is_pending(self, command: type[Command]) -> bool:
        """Whether this command is in flight; the coordinator receives what leads to it."""
        return self._next_for(command) is not None

    def crashes_after_calling(self, command: type[Command]) -> None:
        """The payment worker handles this command, calls the gateway, and crashes before its commit."""
        message = self._next_for(command)
        assert message, f"no {command.__name__} is on its way: {self._waiting()}"
        self.world.crash_before_commit(message)

    def gateway_handles(self, verb: Verb) -> None:
        """The oldest call with this verb reaches the gateway; its answer is in flight."""
        request = self._first(lambda item: isinstance(item, Request) and item.call.verb is verb)
        assert request, f"no {verb} is on its way: {self._waiting()}"
        self._deliver(request)

    def payment_receives_answer(self) -> None:
        """The oldest answer of the gateway reaches payment."""
        reply = self._first(lambda item: isinstance(item, Reply))
        assert reply, f"no answer is on its way: {self._waiting()}"
        self._deliver(reply)

    # -- withdrawals and timers

    def withdraws(self) -> None:
        """The customer withdraws, and the order service handles the withdrawal at once."""
        self.world.publish(WithdrawOrder(order_id=self.plan.order_id, reason=Reason.WITHDRAWN))
        self.handles(WithdrawOrder)

    def deadline_passes(self) -> None:
        self.world.deadline_passes(self.plan.order_id)

    def authorization_times_out(self) -> None:
        self.world.authorization_times_out(self.plan.order_id)

    # -- the end

    def drain(self) -> None:
        """Deliver everything in flight, oldest first; payment polls the gateway until it has its answer."""
        for _ in range(DRAIN_STEPS):
            if item := self._first(lambda _: True):
                self._deliver(item)
                continue
            payment = self.world.find(Payment, self.plan.order_id)
            if payment is None or payment.due_at is None:
                return
            self.world.poll_gateway(self.plan.order_id)

    def ends_as(self, **states: str) -> None:
        """Drain; check that the order ended as its decisions say (G3, G5), with these states: `order="REJECTED(deadline)"`."""
        self.drain()
        now = self.world.order_snapshot(self.plan.order_id)
        check_end(now, decisions(self.world, self.plan))
        self.has_states(**states)

    def has_states(self, **states: str) -> None:
        """Check the states at this moment."""
        now = self.world.order_snapshot(self.plan.order_id)
        found = now.states()
        if now.order and now.order.reason:
            found["order"] += f"({now.order.reason.value})"
        assert {name: found[name] for name in states} == states, "\n".join(self.world.trace)

    # -- items in flight

    def _next_for(self, command: type[Command]) -> QueuedMessage | None:
        """The oldest message that means this command. Until there is one, the coordinator receives its events."""
        while True:
            for item in self._own_items():
                if isinstance(item, QueuedMessage) and item.to != NAME and type(item.command) is command:
                    return item
            event = self._first(lambda item: isinstance(item, QueuedMessage) and item.to == NAME)
            if event is None:
                return None
            self._deliver(event)

    def _deliver(self, item: Item) -> None:
        self.world.in_flight.remove(item)
        if isinstance(item, QueuedMessage):
            self._handled.append(item)
        self.world.deliver(item)

    def _first(self, wanted: Callable[[Item], bool]) -> Item | None:
        return next((item for item in self._own_items() if wanted(item)), None)

    def _own_items(self) -> list[Item]:
        """The items in flight for this order, oldest first."""
        return sorted(
            (item for item in self.world.in_flight if _order_of(item) == self.plan.order_id), key=lambda item: item.rank
        )

    def _waiting(self) -> str:
        return "; ".join(str(item) for item in self._own_items()) or "nothing is in flight"


def _order_of(item: Item) -> str:
    if isinstance(item, QueuedMessage):
        return item.message.order_id
    return item.call.order_id if isinstance(item, Request) else item.answer.order_id
