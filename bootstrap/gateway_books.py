"""The payment gateway's operator interface over HTTP: its health, its books, and their deletion.

Separate from `bootstrap.server_backend`, so that a worker that calls no gateway does not load an HTTP client.
"""

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp

from bootstrap.backend import BookEntry, GatewayBooks, GatewayUnreachable

#: Seconds that the payment gateway may take to answer a health check.
HEALTH_TIMEOUT_S = 3.0
#: Payments in one page of the gateway's books.
PAGE_SIZE = 1_000


async def gateway_health(url: str) -> dict[str, Any] | None:
    """The health document of the payment gateway at `url`; None if it does not answer."""
    timeout = aiohttp.ClientTimeout(total=HEALTH_TIMEOUT_S)
    try:
        async with aiohttp.ClientSession(timeout=timeout) as session, session.get(f"{url}/health") as response:
            return dict(await response.json()) if response.status == 200 else None
    except (aiohttp.ClientError, TimeoutError, ValueError):
        return None


@dataclass(frozen=True, slots=True)
class GatewayBookClient:
    """Client of the book of one mode (`prefix`) at the gateway of `url`. Every call raises GatewayUnreachable."""

    prefix: str
    url: str

    async def read(self) -> GatewayBooks:
        async with aiohttp.ClientSession() as session:
            payments = {key: book_entry async for key, book_entry in self._pages(session)}
            acted = (await self._get(session, "failures", {"detail": "1"}))["keys"]
            return GatewayBooks(payments, acted)

    async def clear(self) -> None:
        async with aiohttp.ClientSession() as session:
            with self._translate_errors():
                response = await session.delete(f"{self.url}/{self.prefix}")
                response.raise_for_status()

    async def _pages(self, session: aiohttp.ClientSession) -> AsyncIterator[tuple[str, BookEntry]]:
        after: str | None = ""
        while after is not None:
            query = {"after": after, "limit": str(PAGE_SIZE)}
            page = await self._get(session, "payments", query)
            for row in page["payments"]:
                yield row["key"], BookEntry(row["state"], row["amount_cents"] or 0)
            after = page["next"]

    async def _get(self, session: aiohttp.ClientSession, resource: str, query: Mapping[str, str]) -> dict[str, Any]:
        with self._translate_errors():
            async with session.get(f"{self.url}/{self.prefix}/{resource}", params=query) as response:
                response.raise_for_status()
                return dict(await response.json())

    @contextmanager
    def _translate_errors(self) -> Iterator[None]:
        try:
            yield
        except (aiohttp.ClientError, TimeoutError) as error:
            raise GatewayUnreachable(f"the payment gateway at {self.url} does not answer: {error}") from error
