"""All four services at once, for whoever puts a system together.

The services do not know each other; only this page, the modes' wiring and the composition root do.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from broker.role import Service
from services.delivery.handlers import delivery_service
from services.inventory.handlers import inventory_service
from services.order.handlers import order_service
from services.payment.domain import PaymentTimeouts
from services.payment.handlers import payment_service


@dataclass(frozen=True, slots=True)
class Timeouts:
    """The business waits, in seconds. `deadline_s`: how long an order may be PENDING before it withdraws itself."""

    deadline_s: float = 30.0
    payment: PaymentTimeouts = field(default_factory=PaymentTimeouts)

    def __post_init__(self) -> None:
        if self.payment.authorize_timeout_s + self.payment.poll_interval_s >= self.deadline_s:
            msg = (
                f"payment's patience ({self.payment.authorize_timeout_s} s) must end well before the order's deadline "
                f"({self.deadline_s} s), or orders end as `deadline` that should end as `payment_timeout`"
            )
            raise ValueError(msg)


def all_services(timeouts: Timeouts) -> Mapping[str, Service]:
    """The four services by name."""
    services = (
        order_service(deadline_s=timeouts.deadline_s),
        inventory_service(),
        payment_service(timeouts.payment),
        delivery_service(),
    )
    return {service.name: service for service in services}
