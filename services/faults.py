"""Which failures can be asked for with an order, as people write them: `payment:declined`, `payment:declined=30%`.

What they do is the workers' and the payment gateway's; this only says which there are.
"""

from collections.abc import Sequence

from broker.faults import MessageFault
from services.delivery import messages as delivery
from services.inventory import messages as inventory
from services.message_types import SERVICES
from services.payment import messages as payment

#: Service -> the business faults that it declares, besides MessageFault.
BUSINESS_FAULTS = {"inventory": inventory.FAULTS, "payment": payment.FAULTS, "delivery": delivery.FAULTS}


class InvalidFault(ValueError):  # noqa: N818 - it names what happened
    """What was asked for makes no sense; the text says what can be asked for."""


def known_faults(service: str) -> list[str]:
    """The failures of one service. What the order service must not fail at has nobody to undo it."""
    never = {MessageFault.ERROR, MessageFault.UNDO_ERROR} if service == "order" else set()
    return sorted({*BUSINESS_FAULTS.get(service, ()), *MessageFault} - never)


def check_faults(texts: Sequence[str]) -> None:
    """Raises InvalidFault unless each is `service:failure`, at most one a service."""
    for text in texts:
        service, _, failure = text.partition(":")
        if service not in SERVICES:
            raise InvalidFault(
                f"{text!r}: there is no service {service!r}. Write SERVICE:FAILURE with one of {', '.join(SERVICES)}."
            )
        if failure not in known_faults(service):
            raise InvalidFault(f"{text!r}: {service} has no failure {failure!r}. It has {', '.join(known_faults(service))}.")
    services = [text.partition(":")[0] for text in texts]
    if len(set(services)) < len(services):
        raise InvalidFault("one failure a service: the second would never act.")


def parse_share(text: str) -> tuple[str, float]:
    """`payment:declined=30%` -> the failure (whether there is such a one is not looked at) and 0.3. Raises InvalidFault."""
    failure, _, share = text.partition("=")
    try:
        fraction = float(share.removesuffix("%")) / 100
    except ValueError:
        fraction = -1.0
    if not share.endswith("%") or not 0 <= fraction <= 1:
        raise InvalidFault(f"{text!r}: write SERVICE:FAILURE=PERCENT, such as payment:declined=30%.")
    return failure, fraction
