"""The timeouts of the business: the order's deadline and payment's waits, with their defaults and how they must fit together."""

from dataclasses import dataclass, field

from services.payment.domain import PaymentTimeouts


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
