"""The four services together.

Imported where a whole system is composed; the services themselves do not import each other.
"""

from collections.abc import Mapping

from broker.role import Service
from services.delivery.handlers import delivery_service
from services.inventory.handlers import inventory_service
from services.order.handlers import order_service
from services.payment.handlers import payment_service
from services.timeouts import Timeouts


def all_services(timeouts: Timeouts) -> Mapping[str, Service]:
    """The four services by name."""
    services = (
        order_service(deadline_s=timeouts.deadline_s),
        inventory_service(),
        payment_service(timeouts.payment),
        delivery_service(),
    )
    return {service.name: service for service in services}
