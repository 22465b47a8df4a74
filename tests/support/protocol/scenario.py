"""The givens of a run: orders and how they are decided, stock, timers, and how much goes wrong.

Drawn from a seed for the random driver, written out for a script.
"""

from dataclasses import dataclass, replace
from random import Random

from services.vocabulary import OrderDetails, Reason
from tests.support.protocol.gateway_model import Decision
from tests.support.protocol.harness import details, order_id

#: Why stock refuses an order of this article: not at all, too little of it, or no such article.
ARTICLES = {None: "cup", Reason.OUT_OF_STOCK: "gold", Reason.UNKNOWN_SKU: "unicorn"}
STOCK = {"cup": 5, "gold": 0}


@dataclass(frozen=True, slots=True)
class Plan:
    """One order: its lines, how the other services decide, and the steps after which its customer withdraws.

    `short_of`: why inventory must refuse it; not known beforehand where orders are `contending` for stock."""

    order_id: str
    details: OrderDetails
    short_of: Reason | None = None
    contending: bool = False
    gateway: Decision = Decision.AUTHORIZES
    undeliverable: bool = False
    withdrawals: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Scenario:
    """Orders, stock, which timers exist, and how much goes wrong. `duplicates`: the most deliveries that are repeated."""

    plans: tuple[Plan, ...]
    stock: dict[str, int]
    deadline: bool = False
    authorization_timeout: bool = False
    duplicates: int = 0
    lossy: bool = False

    @staticmethod
    def single(rng: Random) -> "Scenario":
        """One order, with random decisions, withdrawals, timers and faults."""
        refused = rng.choice((*[None] * 9, Reason.OUT_OF_STOCK, Reason.OUT_OF_STOCK, Reason.UNKNOWN_SKU))
        undeliverable = rng.random() < 0.35
        decision = rng.choice((Decision.AUTHORIZES, Decision.AUTHORIZES, Decision.AUTHORIZES, *Decision))
        moments = tuple(int(20 * rng.random() ** rng.choice((1, 2))) for _ in range(rng.choice((0, 0, 1, 1, 2))))
        wanted = details({ARTICLES[refused]: 2}, served=not undeliverable)
        plan = Plan(order_id(1), wanted, refused, gateway=decision, undeliverable=undeliverable, withdrawals=moments)
        deadline = rng.random() < 0.25
        # A hanging gateway without timer and withdrawal has a test of its own.
        timeout = rng.random() < 0.25 or (decision.hangs and not deadline and not moments)
        return Scenario((plan,), STOCK, deadline, timeout, rng.choice((0, 0, 1, 2, 4)), rng.random() < 0.4)

    @staticmethod
    def crowd(rng: Random) -> "Scenario":
        """Six orders of one or two articles, for which the stock does not suffice."""
        plans = []
        for number in range(1, 7):
            lines = {sku: rng.randint(1, 2) for sku in rng.sample(("cup", "pot"), rng.randint(1, 2))}
            undeliverable = rng.random() < 0.2
            moments = (rng.randrange(60),) if rng.random() < 0.2 else ()
            decision = rng.choice((Decision.AUTHORIZES, Decision.AUTHORIZES, *Decision))
            wanted = details(lines, served=not undeliverable)
            plans.append(
                Plan(
                    order_id(number),
                    wanted,
                    contending=True,
                    gateway=decision,
                    undeliverable=undeliverable,
                    withdrawals=moments,
                )
            )
        return Scenario(tuple(plans), {"cup": 4, "pot": 5}, rng.random() < 0.3, True, rng.choice((0, 4, 12)), rng.random() < 0.4)

    def quiet(self) -> "Scenario":
        """The same decisions without withdrawals and timers: both modes must end such orders alike."""
        plans = tuple(
            replace(plan, withdrawals=(), gateway=Decision.AUTHORIZES if plan.gateway.hangs else plan.gateway)
            for plan in self.plans
        )
        return replace(self, plans=plans, deadline=False, authorization_timeout=False)
