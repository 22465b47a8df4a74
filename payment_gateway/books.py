"""The books of the payment gateway: rules, a clock and a storage put together, without a transport.

`app.py` serves them over HTTP; `bootstrap/in_process_gateway.py` calls them in the same process. A storage may be used by one
event loop only.
"""

from collections.abc import Callable

from payment_gateway import rules
from payment_gateway.rules import Decision, GatewayFault, PaymentRecord
from payment_gateway.storage import Storage


class UnknownFault(ValueError):  # noqa: N818 - says what happened
    """The named failure does not exist. It is an error, because a test run that injects nothing would prove nothing."""


class Books:
    """All books of one gateway.

    `now` returns seconds, of a clock that goes on while the storage is closed. `faults`: whether injected failures act.
    `settle_after_s`: how long a payment stays pending. `slow_s`: the delay of a slow answer, which the transport carries out."""

    def __init__(
        self, storage: Storage, *, now: Callable[[], float], faults: bool, settle_after_s: float, slow_s: float = 1.0
    ) -> None:
        self._storage = storage
        self._now = now
        self.faults = faults
        self._settle_after_s = settle_after_s
        self.slow_s = slow_s

    async def authorize(self, book: str, key: str, amount_cents: int, currency: str, injected: str | None = None) -> Decision:
        """Authorize a payment: decide on a new key, answer a known one as it is now. Raises UnknownFault, StorageFailed."""
        fault = self._requested_fault(injected)

        def decide(known: PaymentRecord | None) -> Decision:
            return rules.authorize(known, amount_cents, currency, fault, now=self._now(), settle_after_s=self._settle_after_s)

        return await self._storage.apply(book, key, decide)

    async def void(self, book: str, key: str, injected: str | None = None) -> Decision:
        """Void the key for good, known or not. Raises UnknownFault, StorageFailed."""
        fault = self._requested_fault(injected)
        return await self._storage.apply(book, key, lambda known: rules.void(known, fault))

    async def find(self, book: str, key: str) -> PaymentRecord | None:
        """The payment as it is now, None if there is none. Raises StorageFailed."""
        payment = await self._storage.find(book, key)
        return None if payment is None else rules.current(payment, self._now())

    async def page(self, book: str, after: str = "", limit: int = 1000) -> list[tuple[str, PaymentRecord]]:
        """Up to `limit` payments as they are now, sorted by key, beginning after `after`. Raises StorageFailed."""
        now = self._now()
        return [(key, rules.current(payment, now)) for key, payment in await self._storage.page(book, after, limit)]

    async def acted(self, book: str) -> dict[GatewayFault, list[str]]:
        """The keys on which each failure has acted, each key once. Raises StorageFailed."""
        return await self._storage.acted(book)

    async def empty(self, book: str) -> None:
        """Delete one book: its payments and the failures that acted. Raises StorageFailed."""
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
            raise UnknownFault(f"the payment gateway has no failure {injected!r}; it has {names}") from None
