"""Sample orders: articles, prices and an address for the CLI, the dashboard and the lab, and a plan of many orders from one seed."""

import hashlib
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from services.vocabulary import DeliveryAddress, Line, OrderDetails

#: Where orders are delivered unless somebody says otherwise.
SAMPLE_ADDRESS = DeliveryAddress(name="Ada Lovelace", street="12 St James's Square", postcode="SW1Y 4JH", country="GB")


#: Every unit of every article costs this much, so that the books are easy to check by eye.
UNIT_PRICE_CENTS = 1_250


CURRENCY = "EUR"


def sample_order(lines: Sequence[Line], address: DeliveryAddress = SAMPLE_ADDRESS) -> OrderDetails:
    """An order's details at the one price."""
    total = UNIT_PRICE_CENTS * sum(line.quantity for line in lines)
    return OrderDetails(lines=tuple(lines), total_cents=total, currency=CURRENCY, address=address)


#: Articles on the shelf, and how many of each are there at least when the storm begins.
SKUS = tuple(f"sku-{number:03d}" for number in range(100))


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """What to fire. `rate` in orders a second, or None to send whenever fewer than `in_flight` are under way.

    `failures`: `service:failure` -> the fraction of orders that show it, at most one failure a service."""

    orders: int
    in_flight: int
    rate: float | None = None
    failures: Mapping[str, float] = field(default_factory=dict)
    seed: int = 1
    timeout_s: float = 120.0

    def faults_of(self, number: int) -> tuple[str, ...]:
        """The failures of the order with this number."""
        return tuple(
            failure for failure, fraction in self.failures.items() if _hash_fraction(self.seed, failure, number) < fraction
        )

    def details_of(self, number: int) -> OrderDetails:
        """The lines of the order with this number: one or two articles, one to three of each."""
        rng = random.Random(f"{self.seed}:{number}")
        skus = rng.sample(SKUS, rng.choice((1, 1, 2)))
        return sample_order([Line(sku=sku, quantity=rng.randint(1, 3)) for sku in skus])


def _hash_fraction(seed: int, failure: str, number: int) -> float:
    """A number in [0, 1) that depends on nothing else."""
    digest = hashlib.sha256(f"{seed}:{failure}:{number}".encode()).digest()
    return int.from_bytes(digest[:8]) / 2**64
