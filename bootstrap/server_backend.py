"""The back end of one mode on servers: RabbitMQ, MongoDB and the payment gateway, each by its URL.

The counterpart of `bootstrap.memory_backend`; workers run on either without change. Every worker process imports this module, so
HTTP clients, which only some need, are imported where they are used.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bootstrap.backend import GATEWAY_TIMEOUT_S, GatewayBooks
from bootstrap.modes import database_name
from broker.environment import Environment
from broker.limits import Limits
from broker.rabbitmq.transport import RabbitTransport
from services.timeouts import Timeouts
from store.mongo.store import MongoStore

if TYPE_CHECKING:
    from services.payment.gateway_http import HttpGateway

#: Seconds until an unreachable database is reported. A worker that runs retries by itself.
SERVER_SELECTION_TIMEOUT_S = 2.0


@dataclass(slots=True)
class ServerBackend:
    """`bootstrap.backend.Backend` on servers. `prefix` of queues, databases and gateway book: the mode, or a test's own."""

    prefix: str
    broker_url: str
    store_url: str
    gateway_url: str
    timeouts: Timeouts = field(default_factory=Timeouts)
    limits: Limits = field(default_factory=Limits)
    environment: Environment = field(default_factory=Environment)
    gateway_timeout_s: float = GATEWAY_TIMEOUT_S

    def transport(self, worker: str) -> RabbitTransport:
        return RabbitTransport(self.broker_url, f"{self.prefix}.{worker}")

    def store(self, worker: str) -> MongoStore:
        return MongoStore(self.store_url, database_name(self.prefix, worker), selection_s=SERVER_SELECTION_TIMEOUT_S)

    def gateway(self) -> "HttpGateway":
        from services.payment.gateway_http import HttpGateway  # noqa: PLC0415 - an HTTP client, see above

        return HttpGateway(self.gateway_url, self.prefix, limit=self.limits.calls_max, timeout_s=self.gateway_timeout_s)

    async def books(self) -> GatewayBooks:
        """The gateway's book for this prefix. Raises GatewayUnreachable."""
        from bootstrap.gateway_books import GatewayBookClient  # noqa: PLC0415 - an HTTP client, see above

        return await GatewayBookClient(self.prefix, self.gateway_url).read()

    async def clear_books(self) -> None:
        """Delete everything in the gateway's book for this prefix. Raises GatewayUnreachable."""
        from bootstrap.gateway_books import GatewayBookClient  # noqa: PLC0415 - an HTTP client, see above

        await GatewayBookClient(self.prefix, self.gateway_url).clear()
