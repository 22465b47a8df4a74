"""What the checks examine: one mode's servers, each connected once and shared, and this machine."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TypeVar, cast

from bootstrap.backend import GatewayUnreachable
from bootstrap.gateway_books import gateway_health
from bootstrap.modes import Mode, roles, topology
from bootstrap.server_backend import ServerBackend
from broker.rabbitmq.topology_check import DeclaredObject
from broker.rabbitmq.transport import RabbitTransport
from broker.topology import Topology
from services.message_types import ORDER
from store.document import Record
from store.mongo.preflight import check_replica_set
from store.mongo.store import MongoStore

T = TypeVar("T")

#: The worker whose database is checked where one is enough: every mode has it.
DEFAULT_WORKER = ORDER
#: Where Linux reports its memory, and where a Docker engine listens by default.
MEMINFO = Path("/proc/meminfo")
DOCKER_HOST = "unix:///var/run/docker.sock"


@dataclass
class Targets:
    """The servers of one mode. `docker_host`: as in the variable DOCKER_HOST. Leaving its context closes every connection."""

    mode: Mode
    backend: ServerBackend
    meminfo: Path = MEMINFO
    docker_host: str = DOCKER_HOST
    _transport: RabbitTransport | None = None
    _stores: dict[str, MongoStore] = field(default_factory=dict)
    _cached: dict[str, "asyncio.Task[Any]"] = field(default_factory=dict)

    @property
    def topology(self) -> Topology:
        return topology(self.mode, self.backend.prefix)

    @property
    def workers(self) -> tuple[str, ...]:
        return tuple(roles(self.mode))

    async def broker(self) -> RabbitTransport:
        """The connected broker. Raises TransportUnavailable, to every caller."""
        return await self._cached_call("broker", self._open_broker)

    async def pieces(self) -> dict[str, DeclaredObject]:
        """Each exchange and queue of the mode by name."""
        return await self._cached_call("pieces", self._inspect)

    def store(self, worker: str = DEFAULT_WORKER) -> MongoStore:
        """A worker's store, unchecked. Raises UnsafeStore for a URL that cannot be used."""
        if worker not in self._stores:
            self._stores[worker] = self.backend.store(worker)
        self._stores[worker].connection.connect()
        return self._stores[worker]

    async def database(self, worker: str = DEFAULT_WORKER) -> MongoStore:
        """A worker's store on a server that answers as a primary. Raises what `check_replica_set` raises, to every caller.

        Checked once for all: after a refusal the driver answers concurrent requests only with "pool paused"."""
        await self._cached_call("database", lambda: check_replica_set(self.store().connection))
        return self.store(worker)

    async def announcements(self) -> dict[str, Record]:
        """The record that each worker wrote when it last started, by worker name. A worker that never started has none."""
        return await self._cached_call("announced", self._read_announcements)

    async def gateway(self) -> dict[str, Any]:
        """The payment gateway's health response. Raises GatewayUnreachable, to every caller."""
        return await self._cached_call("gateway", self._gateway_health)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._cached.values():
            task.cancel()
        await asyncio.gather(*self._cached.values(), return_exceptions=True)
        if self._transport is not None:
            await self._transport.close()
        for store in self._stores.values():
            await store.close()

    async def _cached_call(self, what: str, fetch: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """The result of `fetch`, made once and shared. A caller that times out does not cancel it for the others."""
        if what not in self._cached:
            self._cached[what] = asyncio.create_task(fetch())
        return cast(T, await asyncio.shield(self._cached[what]))

    async def _open_broker(self) -> RabbitTransport:
        self._transport = self.backend.transport("doctor")
        await self._transport.open()
        return self._transport

    async def _inspect(self) -> dict[str, DeclaredObject]:
        return {piece.name: piece for piece in await (await self.broker()).inspect(self.topology)}

    async def _gateway_health(self) -> dict[str, Any]:
        health = await gateway_health(self.backend.gateway_url)
        if health is None:
            raise GatewayUnreachable(f"no payment gateway answers at {self.backend.gateway_url}")
        return health

    async def _read_announcements(self) -> dict[str, Record]:
        found = [record for worker in self.workers for record in await (await self.database(worker)).find("workers")]
        return {record.document_id: record for record in found}
