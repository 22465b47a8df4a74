"""The payment gateway's logic and memory, without any transport: rules, a clock and a storage put together.

`app.py` serves these books over HTTP; `bootstrap/in_process_gateway.py` asks them in the same process, on virtual time.
Storage must belong to the event loop that calls.
"""

from collections.abc import Callable

from payment_gateway import rules
from payment_gateway.rules import Decision, GatewayFault, PaymentRecord
from payment_gateway.storage import Storage


class UnknownFault(ValueError):  # noqa: N818 - says what happened
    """No such failure can be injected here. A run that injects nothing would prove nothing, so this is said aloud."""


class Books:
    """Every book of one gateway.

    `now` gives seconds, of a clock that outlives the storage. `faults` False: no failure is honoured, whatever a call names.
    `settle_after_s`: how long a payment stays pending. `slow_s`: how late a slow answer is; the transport waits for it."""

    def __init__(
        self, storage: Storage, *, now: Callable[[], float], faults: bool, settle_after_s: float = 2.0, slow_s: float = 1.0
    ) -> None:
        self._storage = storage
        self._now = now
        self.faults = faults
        self._settle_after_s = settle_after_s
        self.slow_s = slow_s

    async def authorize(self, book: str, key: str, amount_cents: int, currency: str, injected: str | None = None) -> Decision:
        """A new key's decision, or a known key's present answer. Raises UnknownFault, StorageFailed."""
        fault = self._requested_fault(injected)

        def decide(known: PaymentRecord | None) -> Decision:
            return rules.authorize(known, amount_cents, currency, fault, now=self._now(), settle_after_s=self._settle_after_s)

        return await self._storage.apply(book, key, decide)

    async def void(self, book: str, key: str, injected: str | None = None) -> Decision:
        """Voided for ever, known or not. Raises UnknownFault, StorageFailed."""
        fault = self._requested_fault(injected)
        return await self._storage.apply(book, key, lambda known: rules.void(known, fault))

    async def find(self, book: str, key: str) -> PaymentRecord | None:
        """The payment as it stands now."""
        payment = await self._storage.find(book, key)
        return None if payment is None else rules.current(payment, self._now())

    async def page(self, book: str, after: str = "", limit: int = 1000) -> list[tuple[str, PaymentRecord]]:
        """Up to `limit` payments as they stand now, in the order of their keys, beginning after `after`."""
        now = self._now()
        return [(key, rules.current(payment, now)) for key, payment in await self._storage.page(book, after, limit)]

    async def acted(self, book: str) -> dict[GatewayFault, list[str]]:
        """The keys on which each failure has acted, once each."""
        return await self._storage.acted(book)

    async def empty(self, book: str) -> None:
        """Forget one book: payments, voids and what acted."""
        await self._storage.empty(book)

    async def close(self) -> None:
        await self._storage.close()

    def _requested_fault(self, injected: str | None) -> GatewayFault | None:
        if injected is None or not self.faults:
            return None
        try:
            return GatewayFault(injected)
        except ValueError:
            names = ", ".join(GatewayFault)
            raise UnknownFault(f"no failure {injected!r} can be injected at the payment gateway; there are {names}") from None
