"""The gateway model of the random schedules against the rules of the real one: a wrong model would prove nothing."""

import pytest

from payment_gateway import rules
from services.payment.messages import Answer, Verb
from tests.support.protocol.gateway_model import Decision, GatewayModel

#: The failure that makes the real gateway decide as the model does. The real one never declines a pending payment.
FAILURES = {
    Decision.AUTHORIZES: None,
    Decision.DECLINES: rules.GatewayFault.DECLINED,
    Decision.PENDING_THEN_AUTHORIZED: rules.GatewayFault.PENDING,
    Decision.MUTE: rules.GatewayFault.HANG,
}
ANSWERED = (rules.ResponseMode.IMMEDIATE,)


class RealRules:
    """The real rules with one key."""

    def __init__(self, decision: Decision) -> None:
        self._failure = FAILURES[decision]
        self._known: rules.PaymentRecord | None = None
        self._now = 0.0

    def handle(self, verb: Verb) -> Answer | None:
        if verb is Verb.VOID:
            gateway_decision = rules.void(self._known, self._failure)
        else:
            gateway_decision = rules.authorize(self._known, 100, "EUR", self._failure, now=self._now, settle_after_s=10.0)
        self._known = gateway_decision.record or self._known
        return (
            Answer(gateway_decision.answer.value)
            if gateway_decision.answer and gateway_decision.response_mode in ANSWERED
            else None
        )

    def settle(self) -> None:
        self._now = 20.0

    def book(self) -> str | None:
        return rules.current(self._known, self._now).state.value if self._known else None


ASK, VOID, SETTLE = "authorize", "void", "settle"


@pytest.mark.parametrize("decision", FAILURES)
@pytest.mark.parametrize(
    "calls",
    [
        (ASK, ASK),
        (VOID, ASK, VOID),
        (ASK, VOID, ASK),
        (ASK, SETTLE, ASK, VOID, ASK),
        (VOID, SETTLE, ASK),
        (ASK, VOID, SETTLE, ASK),
    ],
    ids=" ".join,
)
def test_the_model_answers_and_records_like_the_real_rules(decision: Decision, calls: tuple[str, ...]) -> None:
    model, real = GatewayModel({"key": decision}), RealRules(decision)
    for call in calls:
        if call == SETTLE:
            model.settle("key")
            real.settle()
        else:
            assert model.handle(Verb(call), "key") == real.handle(Verb(call))
        assert model.books.get("key") == real.book()
