"""All four services at once, for whoever puts a system together.

The services do not know each other; only this page, the modes' wiring and the composition root do.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from broker.role import Service
from services.delivery.handlers import delivery_service
from services.inventory.handlers import inventory_service
from services.order.handlers import order_service
from services.payment.domain import PaymentTimes
from services.payment.handlers import payment_service


@dataclass(frozen=True, slots=True)
class Times:
    """The business waits, in seconds. `deadline_s`: how long an order may be PENDING before it withdraws itself."""

    deadline_s: float = 30.0
    payment: PaymentTimes = field(default_factory=PaymentTimes)

    def __post_init__(self) -> None:
        if self.payment.patience_s + self.payment.look_again_s >= self.deadline_s:
            msg = (
                f"payment's patience ({self.payment.patience_s} s) must end well before the order's deadline "
                f"({self.deadline_s} s), or orders end as `deadline` that should end as `payment_timeout`"
            )
            raise ValueError(msg)


def all_services(times: Times) -> Mapping[str, Service]:
    """The four services by name."""
    services = (
        order_service(deadline_s=times.deadline_s),
        inventory_service(),
        payment_service(times.payment),
        delivery_service(),
    )
    return {service.name: service for service in services}
