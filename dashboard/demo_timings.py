"""Timings of the in-memory demo: short enough to watch, long enough to be seen.

Apart from the demo itself, because the fault menu quotes them and `saga api` loads the menu without lab/.
"""

from broker.limits import Limits
from services.payment.domain import PaymentTimeouts
from services.timeouts import Timeouts

#: Timeouts of the services.
DEMO_TIMEOUTS = Timeouts(
    deadline_s=15.0, payment=PaymentTimeouts(poll_interval_s=2.0, authorize_timeout_s=5.0, escalate_after_s=5.0)
)
#: Limits of the worker loops.
DEMO_LIMITS = Limits(slow_s=2.0)
#: Seconds until a crashed worker is started again.
RESTART_DELAY_S = 2.0
