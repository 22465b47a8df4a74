"""The payment gateway of the simulator: the real rules and books, reached over a line that loses answers and delays calls.

A call that was made takes effect even if its caller has died: it is in the gateway's hands.
"""

import asyncio
from collections.abc import Callable

from bootstrap.in_process_gateway import InProcessGateway
from lab.simulation.history import History
from lab.simulation.plan import Kind
from lab.simulation.process import Life
from payment_gateway.books import Books
from payment_gateway.rules import Payment, Ruling, present
from payment_gateway.storage import Decide, MemoryStorage
from services.payment.gateway import GatewayCall
from services.payment.messages import Answer

#: How long a caller waits for an answer, in seconds.
TIMEOUT_S = 0.8


class WatchedStorage(MemoryStorage):
    """Books whose every change is told to the history."""

    def __init__(self, history: History) -> None:
        super().__init__()
        self._history = history

    async def rule(self, book: str, key: str, decide: Decide) -> Ruling:
        ruling = await super().rule(book, key, decide)
        self._history.ruled(key, ruling)
        return ruling

    def now_known(self, book: str, key: str, now: float) -> Payment | None:
        """What stands under a key at this moment, without waiting."""
        payment = self._payments[book].get(key)
        return None if payment is None else present(payment, now)


class SimulatedGateway:
    """`services.payment.gateway.PaymentGateway` for one life of the payment worker."""

    def __init__(self, bank: Books, book: str, life: Life, is_down: Callable[[], bool]) -> None:
        self._inner = InProcessGateway(bank, book, timeout_s=TIMEOUT_S)
        self._life = life
        self._is_down = is_down

    async def ask(self, call: GatewayCall, injected: str | None = None) -> Answer:
        await self._life.take_time("call")
        if self._is_down():
            await asyncio.sleep(TIMEOUT_S)
            return Answer.IN_DOUBT
        if self._life.occasions.over:
            injected = None  # somebody has repaired the gateway
        fault = self._life.occasions.strikes(Kind.ANSWER_LOST, Kind.CALL_LATE)
        underway = asyncio.create_task(self._arrive(call, injected, fault.for_s if fault else 0.0))
        if fault is None:
            answer = await asyncio.shield(underway)
            await self._life.take_time("answer")
            return answer
        await asyncio.sleep(TIMEOUT_S)
        return Answer.IN_DOUBT

    async def _arrive(self, call: GatewayCall, injected: str | None, after_s: float) -> Answer:
        await asyncio.sleep(after_s)
        return await self._inner.ask(call, injected)

    async def close(self) -> None:
        await self._inner.close()
