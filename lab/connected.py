"""Real parts, for one mode: RabbitMQ, MongoDB and the payment gateway by URL. What `saga storm`, `order` and `audit` use.

Room: lab/. The counterpart of `lab.embedded`; workers built on either are the same.
"""

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from broker.rabbit import RabbitTransport
from broker.sources import Sources
from broker.worker import Limits
from lab.modes import database_of
from lab.snapshot import Booked, GatewayBooks
from services.catalogue import Times
from services.payment.http_gateway import HttpGateway
from store.mongo import MongoStore

#: Seconds to look for a database before saying that it is not there. Workers look again by themselves.
SELECTION_S = 2.0
#: How long a payment gateway may take to say that it is well.
HEALTH_PATIENCE_S = 3.0
#: Payments asked for in one page of the gateway's books.
PAGE = 1_000


class GatewayUnreachable(Exception):  # noqa: N818 - it names what happened
    """The payment gateway's books cannot be read."""


async def gateway_health(url: str) -> dict[str, Any] | None:
    """What a payment gateway that runs says of itself; None if there is none."""
    timeout = aiohttp.ClientTimeout(total=HEALTH_PATIENCE_S)
    try:
        async with aiohttp.ClientSession(timeout=timeout) as session, session.get(f"{url}/health") as response:
            return dict(await response.json()) if response.status == 200 else None
    except (aiohttp.ClientError, TimeoutError, ValueError):
        return None


@dataclass(slots=True)
class ConnectedParts:
    """`lab.system.Parts` by URL. `prefix` names the queues, databases and gateway book: the mode, unless a test has its own."""

    prefix: str
    broker_url: str
    store_url: str
    gateway_url: str
    times: Times = field(default_factory=Times)
    limits: Limits = field(default_factory=Limits)
    sources: Sources = field(default_factory=Sources)
    gateway_timeout_s: float = 2.0

    def transport(self, worker: str) -> RabbitTransport:
        return RabbitTransport(self.broker_url, f"{self.prefix}.{worker}")

    def store(self, worker: str) -> MongoStore:
        return MongoStore(self.store_url, database_of(self.prefix, worker), selection_s=SELECTION_S)

    def gateway(self) -> HttpGateway:
        return HttpGateway(self.gateway_url, self.prefix, limit=self.limits.calls_max, timeout_s=self.gateway_timeout_s)

    async def books(self) -> GatewayBooks:
        async with aiohttp.ClientSession() as session:
            payments = {key: booked async for key, booked in self._pages(session)}
            acted = (await self._get(session, "failures", {"detail": "1"}))["keys"]
            return GatewayBooks(payments, acted)

    async def empty_books(self) -> None:
        """Forget everything in the gateway's book for this prefix."""
        async with aiohttp.ClientSession() as session:
            with self._asking():
                response = await session.delete(f"{self.gateway_url}/{self.prefix}")
                response.raise_for_status()

    async def _pages(self, session: aiohttp.ClientSession) -> AsyncIterator[tuple[str, Booked]]:
        after: str | None = ""
        while after is not None:
            query = {"after": after, "limit": str(PAGE)}
            page = await self._get(session, "payments", query)
            for row in page["payments"]:
                yield row["key"], Booked(row["state"], row["amount_cents"] or 0)
            after = page["next"]

    async def _get(self, session: aiohttp.ClientSession, what: str, query: Mapping[str, str]) -> dict[str, Any]:
        with self._asking():
            async with session.get(f"{self.gateway_url}/{self.prefix}/{what}", params=query) as response:
                response.raise_for_status()
                return dict(await response.json())

    @contextmanager
    def _asking(self) -> Iterator[None]:
        try:
            yield
        except (aiohttp.ClientError, TimeoutError) as error:
            raise GatewayUnreachable(f"the payment gateway at {self.gateway_url} does not answer: {error}") from error
