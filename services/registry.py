"""The four services together, and how long they wait.

Imported where a whole system is composed; the services themselves do not import each other.
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
    """The waits of the business, in seconds. `deadline_s`: how long an order may be PENDING before it withdraws itself.

    Raises ValueError if payment would wait as long as the order does."""

    deadline_s: float = 30.0
    payment: PaymentTimeouts = field(default_factory=PaymentTimeouts)

    def __post_init__(self) -> None:
        if self.payment.authorize_timeout_s + self.payment.poll_interval_s >= self.deadline_s:
            msg = (
                f"payment's authorization timeout ({self.payment.authorize_timeout_s} s) plus its poll interval "
                f"({self.payment.poll_interval_s} s) must be shorter than the order's deadline ({self.deadline_s} s); otherwise "
                "orders end as `deadline` that should end as `payment_timeout`. Raise the deadline or lower the timeout"
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
