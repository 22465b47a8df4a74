"""The planted bugs of the simulator's tests: what is wrong, how it is planted, and which checkers may find it.

Some handlers, coordinators and reactions with a bug are those of the protocol tests, here in the whole system. A bug is planted
with another worker class, other roles or other gateway rules.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from unittest import mock

from bootstrap.modes import Mode, roles
from broker.handler import Context, Documents, Handle, Outcome
from broker.role import Role
from broker.worker import Worker
from lab.simulation.cluster import SimulatedCluster
from lab.simulation.history import SimulationHistory
from lab.simulation.plan import SimulationPlan
from payment_gateway import rules
from payment_gateway.rules import AuthorizationState, Decision, GatewayFault, PaymentRecord, ResponseMode
from services.delivery.domain import OrderDelivery
from services.delivery.messages import CancelDelivery
from services.inventory.domain import Reservation, ReservationState, Stock
from services.inventory.messages import ReleaseStock, ReserveStock, StockReleased, StockReserved
from services.order.messages import DeadlinePassed, RejectOrder, WithdrawOrder
from services.payment.domain import Payment as PaymentDocument
from services.payment.domain import PaymentState
from services.payment.messages import AuthorizePayment, GatewayAnswered, VoidPayment
from services.timeouts import Timeouts
from tests.support.protocol.bugs import SHORT_CUTS, Change, no_change, with_advance, wrapped
from tests.support.protocol.coordinator_bugs import late_success_applied, unanswered_step_not_undone
from tests.support.protocol.handler_bugs import (
    late_authorization_applied,
    no_tombstone,
    reason_of_the_message,
    tombstone_expires,
    void_published_before_the_gateway_confirms,
    withdrawal_before_the_order_forgotten,
)
from tests.support.simulation import worker_bugs as workers

BOTH = tuple(Mode)
ORCHESTRATOR = (Mode.ORCHESTRATOR,)
CHOREOGRAPHY = (Mode.CHOREOGRAPHY,)


@dataclass(frozen=True, slots=True)
class Planted:
    """One bug. `caught_by`: at least one of these checkers must find something."""

    name: str
    caught_by: tuple[str, ...]
    worker: type[Worker] = Worker
    change: Change = no_change
    rules: Callable[[], "mock._patch[object]"] | None = None
    modes: tuple[Mode, ...] = BOTH

    def make_cluster(self, plan: SimulationPlan, history: SimulationHistory) -> SimulatedCluster:
        """For `simulate(plan, make_cluster=...)`."""
        return SimulatedCluster(plan, history, make_roles=self._roles, make_worker=self.worker)

    def _roles(self, mode: Mode, timeouts: Timeouts) -> Mapping[str, Role]:
        return {role.worker: role for role in self.change(tuple(roles(mode, timeouts).values()))}


STATE = ("state G1", "state G2", "state final", "audit", "state G5")
NEVER_ENDS = ("everything ends",)


# --- handlers ---------------------------------------------------------------------------------------------------------------


def releases_nothing(real: Handle) -> Handle:
    """The compensation answers without an effect."""

    def release(command: ReleaseStock, documents: Documents, context: Context) -> Outcome:
        return Outcome(messages=(StockReleased.from_source(command),))

    return release


def releases_again(real: Handle) -> Handle:
    """A repeated release returns the units to the stock again."""

    def release(command: ReleaseStock, documents: Documents, context: Context) -> Outcome:
        outcome = real(command, documents, context)
        reservation = documents.get(Reservation, command.order_id)
        if reservation is None or reservation.state is not ReservationState.RELEASED:
            return outcome
        stock = {sku: documents.get(Stock, sku) for sku in reservation.quantities}
        wanted = reservation.quantities
        again = tuple(article.copy_with(available=article.available + wanted[sku]) for sku, article in stock.items() if article)
        return replace(outcome, documents=(*outcome.documents, *again))

    return release


def decides_again(real: Handle) -> Handle:
    """A repeated ReserveStock decides a rejected or released reservation again."""

    def reserve(command: ReserveStock, documents: Documents, context: Context) -> Outcome:
        reservation = documents.get(Reservation, command.order_id)
        if reservation is None or reservation.state is ReservationState.HELD:
            return real(command, documents, context)
        held = Reservation(order_id=command.order_id, state=ReservationState.HELD, quantities=command.details.quantities())
        return Outcome((held,), real(command, documents, context).messages)

    return reserve


def oversells(real: Handle) -> Handle:
    """The available stock is not checked."""

    def reserve(command: ReserveStock, documents: Documents, context: Context) -> Outcome:
        outcome = real(command, documents, context)
        if any(
            isinstance(document, Reservation) and document.state is ReservationState.REJECTED for document in outcome.documents
        ):
            wanted = command.details.quantities()
            held = Reservation(order_id=command.order_id, state=ReservationState.HELD, quantities=wanted)
            stock = {sku: article for sku in wanted if (article := documents.get(Stock, sku))}
            moved = [
                article.copy_with(available=article.available - wanted[sku], held=article.held + wanted[sku])
                for sku, article in stock.items()
            ]
            return Outcome((held, *moved), (StockReserved.from_source(command),))
        return outcome

    return reserve


def early_deadline(real: Handle) -> Handle:
    """The deadline is compared with a clock that is a day ahead of the one that set it."""

    def passed(command: DeadlinePassed, documents: Documents, context: Context) -> Outcome:
        return real(command, documents, replace(context, now=context.now + 86_400))

    return passed


# --- the gateway ------------------------------------------------------------------------------------------------------------


def forgets_voids() -> "mock._patch[object]":
    """A void of an unknown key is answered and not recorded."""
    real = rules.void

    def void(known: PaymentRecord | None, failure: GatewayFault | None) -> Decision:
        return Decision(ResponseMode.IMMEDIATE, AuthorizationState.VOIDED) if known is None else real(known, failure)

    return mock.patch("payment_gateway.books.rules.void", void)


PLANTED = (
    Planted("acknowledge before commit", ("acknowledged is kept",), workers.AcknowledgesFirst),
    Planted("outbox off", ("no message without its state",), workers.OutboxOff),
    Planted("inbox off", ("one effect a message",), workers.InboxOff),
    Planted("publish inside the transaction callback", ("no message without its state",), workers.PublishesInTheTransaction),
    Planted("no relay", ("no state without its message",), workers.NoRelay),
    Planted("a swallowed CancelledError", ("stops when told",), workers.SwallowsCancellation),
    Planted("no mandatory flag", ("no state without its message",), workers.NotMandatory),
    Planted("unknown outcome taken as failure", ("one effect a message",), workers.UnknownTakenAsFailure),
    Planted("a timer in memory", NEVER_ENDS, workers.TimersInMemory),
    Planted("an unconfirmed publish taken for confirmed", ("no state without its message",), workers.IgnoresConfirms),
    Planted("compensation missing", STATE, change=wrapped(ReleaseStock, releases_nothing)),
    Planted("compensations in the wrong order", ("state G2",), change=SHORT_CUTS[4].change, modes=CHOREOGRAPHY),
    Planted("a withdrawal that enters below the pivot", STATE, change=SHORT_CUTS[0].change, modes=CHOREOGRAPHY),
    Planted("non-idempotent release", ("stock adds up",), change=wrapped(ReleaseStock, releases_again), modes=CHOREOGRAPHY),
    Planted("a refused step decided again", ("legal path", *STATE), change=wrapped(ReserveStock, decides_again)),
    Planted("oversell", ("stock adds up",), change=wrapped(ReserveStock, oversells)),
    Planted("no stock tombstone", STATE, change=wrapped(ReleaseStock, no_tombstone(Reservation))),
    Planted("no delivery tombstone", STATE, change=wrapped(CancelDelivery, no_tombstone(OrderDelivery)), modes=CHOREOGRAPHY),
    Planted(
        "payment tombstone expires",
        STATE,
        change=wrapped(AuthorizePayment, tombstone_expires(PaymentDocument, PaymentState.VOIDED)),
    ),
    Planted(
        "void published before the gateway confirms",
        STATE,
        change=wrapped(VoidPayment, void_published_before_the_gateway_confirms),
    ),
    Planted("a late authorization accepted", ("legal path", *STATE), change=wrapped(GatewayAnswered, late_authorization_applied)),
    Planted("a gateway without tombstones", STATE, rules=forgets_voids),
    Planted(
        "deadline compared with the wrong clock",
        ("waits are waited",),
        workers.UsesAnotherClockForTimers,
        change=wrapped(DeadlinePassed, early_deadline),
    ),
    Planted("a late success accepted", STATE, change=with_advance(late_success_applied), modes=ORCHESTRATOR),
    Planted("the unanswered step not compensated", STATE, change=with_advance(unanswered_step_not_undone), modes=ORCHESTRATOR),
    Planted(
        "an early withdrawal forgotten",
        ("withdrawals count",),
        change=wrapped(WithdrawOrder, withdrawal_before_the_order_forgotten),
    ),
    Planted("the reason taken from the message", ("state G5",), change=wrapped(RejectOrder, reason_of_the_message)),
)
