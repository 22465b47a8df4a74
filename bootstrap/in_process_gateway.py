"""The payment gateway inside this process, for the in-memory back end and the simulator, which use neither HTTP nor real time.

It uses the books and rules of `payment_gateway/` and implements the same port as the HTTP client
(`services/payment/gateway_http.py`); both pass tests/services/payment/test_gateway_contract.py. It waits by asyncio.sleep alone.
"""

import asyncio

import structlog

from bootstrap.backend import GATEWAY_TIMEOUT_S
from payment_gateway.books import Books, UnknownFault
from payment_gateway.rules import Decision, ResponseMode
from payment_gateway.storage import StorageFailed
from services.payment.gateway import GatewayCall
from services.payment.messages import Answer, Verb

log = structlog.get_logger()


class InProcessGateway:
    """Calls `books` in `book`, the namespace of one mode. `timeout_s`: how long a call waits for its answer."""

    def __init__(self, books: Books, book: str, *, timeout_s: float = GATEWAY_TIMEOUT_S) -> None:
        self._books = books
        self._book = book
        self._timeout_s = timeout_s

    async def call(self, call: GatewayCall, injected: str | None = None) -> Answer:
        try:
            decision = await self._decide(call, injected)
        except (UnknownFault, StorageFailed) as error:
            log.error("gateway_refused", order_id=call.order_id, verb=call.verb.value, answer=str(error))  # noqa: TRY400 - no bug
            return Answer.IN_DOUBT
        wait_s = {ResponseMode.NEVER: self._timeout_s, ResponseMode.LATE: self._books.slow_s}.get(decision.response_mode, 0.0)
        if wait_s:
            await asyncio.sleep(min(wait_s, self._timeout_s))
        return self._answer(call, decision)

    async def close(self) -> None:
        """Close nothing: the books outlive their clients."""

    async def _decide(self, call: GatewayCall, injected: str | None) -> Decision:
        if call.verb is Verb.VOID:
            return await self._books.void(self._book, call.order_id, injected)
        return await self._books.authorize(self._book, call.order_id, call.amount_cents, call.currency, injected)

    def _answer(self, call: GatewayCall, decision: Decision) -> Answer:
        """The answer that reaches the caller: the decision's, or IN_DOUBT when none arrives in time."""
        if decision.response_mode is ResponseMode.MISMATCH:
            log.error("gateway_refused", order_id=call.order_id, verb=call.verb.value, answer="key_reused")
        answered = decision.response_mode is ResponseMode.IMMEDIATE or (
            decision.response_mode is ResponseMode.LATE and self._books.slow_s < self._timeout_s
        )
        return Answer(decision.answer.value) if answered and decision.answer is not None else Answer.IN_DOUBT
