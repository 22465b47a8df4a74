"""The failures that can be injected with an order, in the notation of the CLI: `payment:declined`, `payment:declined=30%`.

This module only knows which failures exist and parses their notation. The workers and the payment gateway act them out.
"""

from collections.abc import Sequence

from broker.faults import MessageFault
from services.delivery import messages as delivery
from services.inventory import messages as inventory
from services.message_types import SERVICES
from services.order import messages as order
from services.payment import messages as payment

#: Service -> the business faults that it declares, in addition to MessageFault.
BUSINESS_FAULTS = {"inventory": inventory.FAULTS, "payment": payment.FAULTS, "delivery": delivery.FAULTS}
#: Service -> the message faults that it declares not to offer.
FAULTS_NOT_OFFERED = {"order": order.FAULTS_NOT_OFFERED}


class InvalidFault(ValueError):  # noqa: N818 - it names what happened
    """An injected failure that does not exist or is written wrongly. The message says what can be injected."""


def known_faults(service: str) -> list[str]:
    """The failures that can be injected into one service, sorted."""
    return sorted({*BUSINESS_FAULTS.get(service, ()), *MessageFault} - FAULTS_NOT_OFFERED.get(service, frozenset()))


def check_faults(texts: Sequence[str]) -> None:
    """Check that each text is `service:failure`, with at most one failure for each service. Raises InvalidFault."""
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
        raise InvalidFault("only one failure can be injected into each service: the second would never act. Name one.")


def parse_share(text: str) -> tuple[str, float]:
    """Split `payment:declined=30%` into the failure and the share, 0.3. Raises InvalidFault for a wrong notation.

    Whether the failure exists is not checked; `check_faults` does that."""
    failure, _, share = text.partition("=")
    try:
        fraction = float(share.removesuffix("%")) / 100
    except ValueError:
        fraction = -1.0
    if not share.endswith("%") or not 0 <= fraction <= 1:
        raise InvalidFault(f"{text!r}: write SERVICE:FAILURE=PERCENT, such as payment:declined=30%.")
    return failure, fraction
