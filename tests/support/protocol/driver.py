"""Drives a world in random order: any message may be late, early or repeated, any call lost, any timer may fire at any moment.

Everything is drawn from one seed, so a failure names the seed and prints the schedule. After the random
part the driver drains the world by fair steps alone (nothing repeated or lost any more), because help from a duplicate would hide
an order that hangs.
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
from tests.support.protocol.world import Item, Parcel, Reply, Request, World

#: Steps of the random part of one order, and of everything after it. Far above what any run of the protocol needs.
RANDOM_STEPS = 40
DRAIN_STEPS = 1_000

#: When every wait of this run is over.
LONG_AFTER = NOW + 10 * TIMES.deadline_s


class Driver:
    """One run of one scenario in one mode, decided by `rng` alone."""

    def __init__(self, world: World, scenario: Scenario, rng: Random) -> None:
        self.world = world
        self.scenario = scenario
        self._rng = rng
        self._duplicates = scenario.duplicates
        #: Half of the runs pick the next item at random, half let some items always be overtaken by others.
        self._heeds_rank = rng.random() < 0.5
        #: One worker is down for a while in some runs: its messages wait, everything else goes on.
        self._down = rng.choice(sorted(world.roles)) if rng.random() < 0.4 else None
        self._up_again = int(RANDOM_STEPS * rng.random())
        self._to_come = [
            (moment, WithdrawOrder(order_id=plan.order_id, reason=Reason.WITHDRAWN))
            for plan in scenario.plans
            for moment in plan.withdrawals
        ]

    def run(self) -> World:
        """The random part, the drain, and the judgement of every order's end. Raises Broken with the schedule."""
        try:
            for plan in self.scenario.plans:
                self.world.publish(PlaceOrder(order_id=plan.order_id, details=plan.details))
            for step in range(RANDOM_STEPS * len(self.scenario.plans)):
                self._enter(step)
                self._act(step)
            self._enter(None)
            self._drain()
            for plan in self.scenario.plans:
                check_end(self.world.order_snapshot(plan.order_id), decisions(self.world, plan))
        except InvariantViolated as broken:
            broken.add_note(f"{self.world.mode}, {self.scenario}\n  " + "\n  ".join(self.world.trace))
            raise
        return self.world

    # -- the random part

    def _enter(self, step: int | None) -> None:
        """Customers withdraw whose moment has come; all that are left, if `step` is None."""
        for moment, command in list(self._to_come):
            if step is None or moment <= step:
                self._to_come.remove((moment, command))
                self.world.publish(command)

    def _act(self, step: int) -> None:
        down = self._down if step < self._up_again else None
        ready = [item for item in self.world.bag if not (isinstance(item, Parcel) and item.to == down)]
        if self._rng.random() < 0.2 or not ready:
            self._let_time_pass(self._rng.choice(self.scenario.plans).order_id)
        else:
            self._let_arrive(min(ready, key=lambda item: item.rank) if self._heeds_rank else self._rng.choice(ready))

    def _let_time_pass(self, number: str) -> None:
        """One thing that needs no message: the gateway settles, payment looks again or loses patience, the deadline passes."""
        order, payment = self.world.find(Order, number), self.world.find(Payment, number)
        what = self._rng.randrange(5)
        if what == 0:
            self.world.gateway.settle(number)
            self.world.check(number)
        elif what == 1 and payment and payment.due_at is not None:
            self.world.poll_gateway(number)
        elif what == 2 and self.scenario.patience and payment and payment.authorize_until is not None:
            self.world.patience_ends(number)
        elif what == 3 and self.scenario.deadline and self._rng.random() < 0.5 and order and order.due_at is not None:
            self.world.deadline_passes(number)
        elif what == 4:
            self._wake_in_vain(number)

    def _wake_in_vain(self, number: str) -> None:
        """A watch found a document that has been handled since: whoever is woken looks at what is there now."""
        order, payment = self.world.find(Order, number), self.world.find(Payment, number)
        if payment is None or payment.due_at is None:
            self.world.handle("payment", PollGateway(order_id=number), now=LONG_AFTER)
        if order is None or order.due_at is None:
            self.world.handle("order", DeadlinePassed(order_id=number), now=LONG_AFTER)

    def _let_arrive(self, item: Item) -> None:
        bag = self.world.bag
        goes_wrong = self._rng.random() < 0.2
        if isinstance(item, Parcel):
            if goes_wrong and item.to == "payment" and self.scenario.lossy:
                self.world.die_before_commit(item)
                bag[bag.index(item)] = replace(item, rank=self._rng.uniform(0.5, 1.5))  # it comes again, rather late
                return
            if not (goes_wrong and self._may_repeat()):
                bag.remove(item)
            self.world.take(item)
        elif goes_wrong and self.scenario.lossy:
            self._lose(item)
        else:
            bag.remove(item)
            self.world.take(item)

    def _may_repeat(self) -> bool:
        self._duplicates -= 1
        return self._duplicates >= 0

    def _lose(self, item: Request | Reply) -> None:
        """A request or a reply is lost without a word, its caller hears of it, or it arrives and comes again."""
        fate = self._rng.randrange(3)
        if fate == 2:
            self.world.take(item)
            return
        self.world.bag.remove(item)
        self.world.trace.append(f"lost: {item}")
        if fate == 1 and isinstance(item, Request) and item.answered:
            self.world.reply(item, Answer.IN_DOUBT)

    # -- the drain

    def _drain(self) -> None:
        """Fair steps until nothing is left to do: timers come last, so that they do not hide what hangs without them."""
        for patient in (True, True, True, False, False, False):
            self._empty_the_bag()
            for plan in self.scenario.plans:
                self.world.gateway.settle(plan.order_id)
                self._wake(plan.order_id, patient=patient)
        self._empty_the_bag()

    def _wake(self, number: str, *, patient: bool) -> None:
        order, payment = self.world.find(Order, number), self.world.find(Payment, number)
        if payment and payment.due_at is not None:
            if patient or payment.authorize_until is None or not self.scenario.patience:
                self.world.poll_gateway(number)
            else:
                self.world.patience_ends(number)
        overdue = order and order.state is OrderState.PENDING and number not in self.world.first_withdrawal
        if overdue and self.scenario.deadline and not patient and not self.scenario.patience:
            self.world.deadline_passes(number)

    def _empty_the_bag(self) -> None:
        bag = self.world.bag
        for _ in range(DRAIN_STEPS):
            if not bag:
                return
            item = bag.pop(self._rng.randrange(len(bag)))
            self.world.take(item)
        raise InvariantViolated("G3", f"not drained after {DRAIN_STEPS} steps, {len(bag)} items left")


def decisions(world: World, plan: Plan) -> Decisions:
    """What decided this order's end, as seen from outside; whether contended stock was left only inventory knows."""
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
    """One run from nothing to its end."""
    gateway = model({plan.order_id: plan.gateway for plan in scenario.plans})
    return Driver(World(mode, gateway, scenario.stock, roles=roles, rank=rng.random), scenario, rng).run()


def end_of(world: World, number: str = order_id(1)) -> str:
    """How this order ended, such as `REJECTED(withdrawn)`."""
    order = world.find(Order, number)
    assert order is not None
    return f"{order.state}({order.reason})" if order.reason else str(order.state)
