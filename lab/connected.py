"""Real parts, for one mode: RabbitMQ, MongoDB and the payment gateway by URL. What `saga storm`, `order` and `audit` look through.

Room: lab/. The counterpart of `lab.embedded`; workers built on either are the same.
"""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field

import aiohttp

from broker.rabbit import RabbitTransport
from broker.sources import Sources
from broker.worker import Limits
from lab.modes import database_of
from lab.snapshot import Booked
from services.catalogue import Times
from services.payment.http_gateway import HttpGateway
from store.mongo import MongoStore

#: Payments asked for in one page of the gateway's books.
PAGE = 1_000


class GatewayUnreachable(Exception):  # noqa: N818 - it names what happened
    """The payment gateway's books cannot be read."""


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
        return MongoStore(self.store_url, database_of(self.prefix, worker))

    def gateway(self) -> HttpGateway:
        return HttpGateway(self.gateway_url, self.prefix, limit=self.limits.calls_max, timeout_s=self.gateway_timeout_s)

    async def books(self) -> Mapping[str, Booked]:
        async with aiohttp.ClientSession() as session:
            return {key: booked async for key, booked in self._pages(session)}

    async def _pages(self, session: aiohttp.ClientSession) -> AsyncIterator[tuple[str, Booked]]:
        after: str | None = ""
        while after is not None:
            query = {"after": after, "limit": str(PAGE)}
            page = await self._get(session, "payments", query)
            for row in page["payments"]:
                yield row["key"], Booked(row["state"], row["amount_cents"] or 0)
            after = page["next"]

    async def failures(self) -> dict[str, int]:
        """Failure -> on how many payments it acted at the gateway."""
        async with aiohttp.ClientSession() as session:
            acted: dict[str, int] = (await self._get(session, "failures", {}))["acted"]
            return acted

    async def _get(self, session: aiohttp.ClientSession, what: str, query: Mapping[str, str]) -> dict:  # type: ignore[type-arg]
        try:
            async with session.get(f"{self.gateway_url}/{self.prefix}/{what}", params=query) as response:
                response.raise_for_status()
                return dict(await response.json())
        except aiohttp.ClientError as error:
            raise GatewayUnreachable(f"the payment gateway at {self.gateway_url} does not show its books: {error}") from error
