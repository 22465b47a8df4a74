"""The payment gateway in this process: for the embedded run and the simulator, where there is neither HTTP nor real time.

The same books and rules as the real one (`payment_gateway/`), seen through the same port as the client over HTTP
(`services/payment/gateway_http.py`); both pass tests/services/payment/test_gateway_contract.py. It waits only by asyncio.sleep.
"""

import asyncio

import structlog

from payment_gateway.books import Books, UnknownFailure
from payment_gateway.rules import Manner, Ruling
from payment_gateway.storage import StorageFailed
from services.payment.gateway import GatewayCall
from services.payment.messages import Answer, Verb

log = structlog.get_logger()


class InProcessGateway:
    """Asks `books` in `book`, the namespace of one mode. `timeout_s`: how long an answer that never comes is waited for."""

    def __init__(self, books: Books, book: str, *, timeout_s: float = 2.0) -> None:
        self._books = books
        self._book = book
        self._timeout_s = timeout_s

    async def ask(self, call: GatewayCall, injected: str | None = None) -> Answer:
        try:
            ruling = await self._ruling(call, injected)
        except (UnknownFailure, StorageFailed) as error:
            log.error("gateway_refused", order_id=call.order_id, verb=call.verb.value, answer=str(error))  # noqa: TRY400 - no bug
            return Answer.IN_DOUBT
        wait_s = {Manner.NEVER: self._timeout_s, Manner.LATE: self._books.slow_s}.get(ruling.manner, 0.0)
        if wait_s:
            await asyncio.sleep(min(wait_s, self._timeout_s))
        return self._answer(call, ruling)

    async def close(self) -> None:
        """The books belong to whoever made them: they outlive their clients."""

    async def _ruling(self, call: GatewayCall, injected: str | None) -> Ruling:
        if call.verb is Verb.VOID:
            return await self._books.void(self._book, call.order_id, injected)
        return await self._books.authorize(self._book, call.order_id, call.amount_cents, call.currency, injected)

    def _answer(self, call: GatewayCall, ruling: Ruling) -> Answer:
        """What the caller hears: nothing in time, or the ruling's word."""
        if ruling.manner is Manner.MISMATCH:
            log.error("gateway_refused", order_id=call.order_id, verb=call.verb.value, answer="key_reused")
        heard = ruling.manner is Manner.AT_ONCE or (ruling.manner is Manner.LATE and self._books.slow_s < self._timeout_s)
        return Answer(ruling.answer.value) if heard and ruling.answer is not None else Answer.IN_DOUBT
