"""A random driver of a world: any message may be late, early or repeated, any call lost, any timer may fire at any moment.

Everything is drawn from one seed, so a failure names its seed and prints its schedule. After the random part the driver drains
the world by fair steps alone (nothing is repeated or lost any more), because a duplicate could hide an order that hangs.
"""

from dataclasses import replace
from random import Random

from broker.role import Role
from lab.invariants import Decisions, InvariantViolated, check_end
from services.inventory.domain import Reservation, ReservationState
from services.order.domain import Order, OrderState
from services.order.messages import DeadlinePassed, PlaceOrder, WithdrawOrder
from services.payment.domain import Payment
from services.payment.messages import Answer, PollGateway
from services.vocabulary import Reason
from tests.support.protocol.gateway_model import GatewayModel
from tests.support.protocol.harness import NOW, TIMES, order_id
from tests.support.protocol.scenario import Plan, Scenario
from tests.support.protocol.world import Item, QueuedMessage, Reply, Request, World

#: Steps of the random part for each order, and of the drain at most. Far more than a run of the protocol needs.
RANDOM_STEPS = 40
DRAIN_STEPS = 1_000

#: A time after every wait of a run.
LONG_AFTER = NOW + 10 * TIMES.deadline_s


class Driver:
    """One run of one scenario in one mode. `rng` makes every choice."""

    def __init__(self, world: World, scenario: Scenario, rng: Random) -> None:
        self.world = world
        self.scenario = scenario
        self._rng = rng
        self._duplicates = scenario.duplicates
        #: Half of the runs choose the next item at random; the others by rank, so that some items are always overtaken.
        self._by_rank = rng.random() < 0.5
        #: In some runs one worker is down for a while: its messages wait, everything else goes on.
        self._down = rng.choice(sorted(world.roles)) if rng.random() < 0.4 else None
        self._down_until = int(RANDOM_STEPS * rng.random())
        self._withdrawals = [
            (moment, WithdrawOrder(order_id=plan.order_id, reason=Reason.WITHDRAWN))
            for plan in scenario.plans
            for moment in plan.withdrawals
        ]

    def run(self) -> World:
        """Run the random part and the drain, then check every order's end. Raises InvariantViolated with the schedule."""
        try:
            for plan in self.scenario.plans:
                self.world.publish(PlaceOrder(order_id=plan.order_id, details=plan.details))
            for step in range(RANDOM_STEPS * len(self.scenario.plans)):
                self._send_withdrawals(step)
                self._act(step)
            self._send_withdrawals(None)
            self._drain()
            for plan in self.scenario.plans:
                check_end(self.world.order_snapshot(plan.order_id), decisions(self.world, plan))
        except InvariantViolated as broken:
            broken.add_note(f"{self.world.mode}, {self.scenario}\n  " + "\n  ".join(self.world.trace))
            raise
        return self.world

    # -- the random part

    def _send_withdrawals(self, step: int | None) -> None:
        """Send the withdrawals that are due at this step; all that are left if `step` is None."""
        for moment, command in list(self._withdrawals):
            if step is None or moment <= step:
                self._withdrawals.remove((moment, command))
                self.world.publish(command)

    def _act(self, step: int) -> None:
        down = self._down if step < self._down_until else None
        ready = [item for item in self.world.in_flight if not (isinstance(item, QueuedMessage) and item.to == down)]
        if self._rng.random() < 0.2 or not ready:
            self._let_time_pass(self._rng.choice(self.scenario.plans).order_id)
        else:
            self._deliver_one(min(ready, key=lambda item: item.rank) if self._by_rank else self._rng.choice(ready))

    def _let_time_pass(self, number: str) -> None:
        """One step without a message: the gateway settles, payment polls, the authorization times out, the deadline passes."""
        order, payment = self.world.find(Order, number), self.world.find(Payment, number)
        what = self._rng.randrange(5)
        if what == 0:
            self.world.gateway.settle(number)
            self.world.check(number)
        elif what == 1 and payment and payment.due_at is not None:
            self.world.poll_gateway(number)
        elif what == 2 and self.scenario.authorization_timeout and payment and payment.authorize_until is not None:
            self.world.authorization_times_out(number)
        elif what == 3 and self.scenario.deadline and self._rng.random() < 0.5 and order and order.due_at is not None:
            self.world.deadline_passes(number)
        elif what == 4:
            self._fire_stale_timers(number)

    def _fire_stale_timers(self, number: str) -> None:
        """Fire the timers for documents that no longer wait: the handlers must decide on the state as it is now."""
        order, payment = self.world.find(Order, number), self.world.find(Payment, number)
        if payment is None or payment.due_at is None:
            self.world.handle("payment", PollGateway(order_id=number), now=LONG_AFTER)
        if order is None or order.due_at is None:
            self.world.handle("order", DeadlinePassed(order_id=number), now=LONG_AFTER)

    def _deliver_one(self, item: Item) -> None:
        in_flight = self.world.in_flight
        goes_wrong = self._rng.random() < 0.2
        if isinstance(item, QueuedMessage):
            if goes_wrong and item.to == "payment" and self.scenario.lossy:
                self.world.crash_before_commit(item)
                in_flight[in_flight.index(item)] = replace(item, rank=self._rng.uniform(0.5, 1.5))  # redelivered, usually late
                return
            if not (goes_wrong and self._may_repeat()):
                in_flight.remove(item)
            self.world.deliver(item)
        elif goes_wrong and self.scenario.lossy:
            self._lose(item)
        else:
            in_flight.remove(item)
            self.world.deliver(item)

    def _may_repeat(self) -> bool:
        self._duplicates -= 1
        return self._duplicates >= 0

    def _lose(self, item: Request | Reply) -> None:
        """Lose a request or a reply unnoticed, report the loss to its caller, or deliver it and keep it in flight."""
        fate = self._rng.randrange(3)
        if fate == 2:
            self.world.deliver(item)
            return
        self.world.in_flight.remove(item)
        self.world.trace.append(f"lost: {item}")
        if fate == 1 and isinstance(item, Request) and item.answered:
            self.world.reply(item, Answer.IN_DOUBT)

    # -- the drain

    def _drain(self) -> None:
        """Take fair steps until nothing is left to do. Timeouts come last, so that they do not hide what hangs without them."""
        for polls_only in (True, True, True, False, False, False):
            self._deliver_all()
            for plan in self.scenario.plans:
                self.world.gateway.settle(plan.order_id)
                self._fire_timers(plan.order_id, polls_only=polls_only)
        self._deliver_all()

    def _fire_timers(self, number: str, *, polls_only: bool) -> None:
        order, payment = self.world.find(Order, number), self.world.find(Payment, number)
        if payment and payment.due_at is not None:
            if polls_only or payment.authorize_until is None or not self.scenario.authorization_timeout:
                self.world.poll_gateway(number)
            else:
                self.world.authorization_times_out(number)
        overdue = order and order.state is OrderState.PENDING and number not in self.world.first_withdrawal
        if overdue and self.scenario.deadline and not polls_only and not self.scenario.authorization_timeout:
            self.world.deadline_passes(number)

    def _deliver_all(self) -> None:
        in_flight = self.world.in_flight
        for _ in range(DRAIN_STEPS):
            if not in_flight:
                return
            item = in_flight.pop(self._rng.randrange(len(in_flight)))
            self.world.deliver(item)
        raise InvariantViolated("G3", f"not drained after {DRAIN_STEPS} steps, {len(in_flight)} items left")


def decisions(world: World, plan: Plan) -> Decisions:
    """What decided this order's end, observed from outside; only the result of contended stock is taken from inventory."""
    reservation = world.find(Reservation, plan.order_id)
    went_without = plan.contending and reservation is not None and reservation.state is ReservationState.REJECTED
    refused = reservation.reason if went_without and reservation else plan.short_of
    return Decisions(
        stock=refused,
        gateway_refuses=plan.gateway.refuses,
        delivery_refuses=plan.undeliverable,
        withdrawn=world.first_withdrawal.get(plan.order_id),
        payment_timed_out=plan.order_id in world.payment_timed_out,
    )


def run(
    mode: str, scenario: Scenario, rng: Random, *, roles: tuple[Role, ...] | None = None, model: type[GatewayModel] = GatewayModel
) -> World:
    """Run one scenario from its start to its end."""
    gateway = model({plan.order_id: plan.gateway for plan in scenario.plans})
    return Driver(World(mode, gateway, scenario.stock, roles=roles, rank=rng.random), scenario, rng).run()


def end_of(world: World, number: str = order_id(1)) -> str:
    """How this order ended, such as `REJECTED(withdrawn)`."""
    order = world.find(Order, number)
    assert order is not None
    return f"{order.state}({order.reason})" if order.reason else str(order.state)
