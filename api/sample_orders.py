"""Sample orders: articles, prices and an address for the CLI, the dashboard and the lab, and a load of orders from one seed."""

import hashlib
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from services.vocabulary import DeliveryAddress, Line, OrderDetails

#: The default delivery address.
SAMPLE_ADDRESS = DeliveryAddress(name="Ada Lovelace", street="12 St James's Square", postcode="SW1Y 4JH", country="GB")
#: The price of one unit of every article: one for all, so that totals are easy to check by eye.
UNIT_PRICE_CENTS = 1_250
CURRENCY = "EUR"


def sample_order(lines: Sequence[Line], address: DeliveryAddress = SAMPLE_ADDRESS) -> OrderDetails:
    """The details of an order with these lines."""
    total = UNIT_PRICE_CENTS * sum(line.quantity for line in lines)
    return OrderDetails(lines=tuple(lines), total_cents=total, currency=CURRENCY, address=address)


#: The articles that a load plan orders.
SKUS = tuple(f"sku-{number:03d}" for number in range(100))


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """A load of orders, for the storm.

    `rate`: orders per second; None: send while fewer than `in_flight` are under way. `failures`: `service:failure` -> the
    fraction of orders that it is injected with, at most one failure for each service."""

    orders: int
    in_flight: int
    rate: float | None = None
    failures: Mapping[str, float] = field(default_factory=dict)
    seed: int = 1
    timeout_s: float = 120.0

    def faults_of(self, number: int) -> tuple[str, ...]:
        """The failures to inject with the order of this number."""
        return tuple(
            failure for failure, fraction in self.failures.items() if _hash_fraction(self.seed, failure, number) < fraction
        )

    def details_of(self, number: int) -> OrderDetails:
        """The details of the order of this number: one or two articles, one to three units of each."""
        rng = random.Random(f"{self.seed}:{number}")
        skus = rng.sample(SKUS, rng.choice((1, 1, 2)))
        return sample_order([Line(sku=sku, quantity=rng.randint(1, 3)) for sku in skus])


def _hash_fraction(seed: int, failure: str, number: int) -> float:
    """A number in [0, 1) that depends only on the arguments."""
    digest = hashlib.sha256(f"{seed}:{failure}:{number}".encode()).digest()
    return int.from_bytes(digest[:8]) / 2**64
