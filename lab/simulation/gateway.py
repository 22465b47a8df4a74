"""The simulator's payment gateway: the real rules and books, behind a connection that loses answers and delays calls.

A call that was sent takes effect even if its caller is killed meanwhile.
"""

import asyncio
from collections.abc import Callable

from bootstrap.in_process_gateway import InProcessGateway
from lab.simulation.history import SimulationHistory
from lab.simulation.plan import FaultKind
from lab.simulation.process import SimulatedProcess
from lab.simulation.random_streams import Operation
from payment_gateway.books import Books
from payment_gateway.rules import Decision, PaymentRecord, current
from payment_gateway.storage import Decide, MemoryStorage
from services.payment.gateway import GatewayCall
from services.payment.messages import Answer

#: How long a caller waits for an answer, in seconds.
TIMEOUT_S = 0.8


class RecordingStorage(MemoryStorage):
    """Books in memory that record every decision in the history."""

    def __init__(self, history: SimulationHistory) -> None:
        super().__init__()
        self._history = history

    async def apply(self, book: str, key: str, decide: Decide) -> Decision:
        decision = await super().apply(book, key, decide)
        self._history.on_gateway_ruling(key, decision)
        return decision

    def current_payment(self, book: str, key: str, now: float) -> PaymentRecord | None:
        """The payment under a key at the time `now`, None if there is none. Reads at once, without a call."""
        payment = self._payments[book].get(key)
        return None if payment is None else current(payment, now)


class SimulatedGateway:
    """`services.payment.gateway.PaymentGateway` for one process of the payment worker."""

    def __init__(self, payment_books: Books, book: str, process: SimulatedProcess, is_down: Callable[[], bool]) -> None:
        self._inner = InProcessGateway(payment_books, book, timeout_s=TIMEOUT_S)
        self._process = process
        self._is_down = is_down

    async def call(self, call: GatewayCall, injected: str | None = None) -> Answer:
        await self._process.simulate_latency(Operation.GATEWAY_CALL)
        if self._is_down():
            await asyncio.sleep(TIMEOUT_S)
            return Answer.IN_DOUBT
        if self._process.fault_triggers.disabled:
            injected = None  # all faults have ended, those that orders carry included
        fault = self._process.fault_triggers.next_fault(FaultKind.ANSWER_LOST, FaultKind.CALL_LATE)
        pending_call = asyncio.create_task(self._deliver_call(call, injected, fault.for_s if fault else 0.0))
        if fault is None:
            answer = await asyncio.shield(pending_call)
            await self._process.simulate_latency(Operation.GATEWAY_ANSWER)
            return answer
        await asyncio.sleep(TIMEOUT_S)
        return Answer.IN_DOUBT

    async def _deliver_call(self, call: GatewayCall, injected: str | None, after_s: float) -> Answer:
        await asyncio.sleep(after_s)
        return await self._inner.call(call, injected)

    async def close(self) -> None:
        await self._inner.close()
