"""Test bed of the transport contract: a broker, in memory or real, its clients, and outages.

A test gets a `World` and does not know which broker it runs on. Each has a topology of its own under a new prefix, which is
deleted at the end.
"""

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from yarl import URL

from broker.memory.transport import MemoryBroker, MemoryTransport
from broker.rabbitmq.transport import RabbitTransport
from broker.topology import (
    Address,
    Topology,
    WorkQueue,
    commands_exchange,
    dead_queue,
    events_exchange,
    queue_of,
)
from broker.transport import Delivery, Outgoing, Transport, Wire
from tests.support.network.tcp_proxy import Proxy
from tests.support.wait import until

QUEUES = (
    WorkQueue("stock", takes_commands=("stock.Do",), listens_to=("order.Placed",)),
    WorkQueue("money", takes_commands=("money.Do",), listens_to=("order.Placed", "stock.Reserved")),
    WorkQueue("turns", takes_commands=("turns.Do",), listens_to=(), single_active=True),
)


class Deliveries(list[Delivery]):
    """A sink that records its deliveries."""

    def __call__(self, delivery: Delivery) -> None:
        self.append(delivery)

    @property
    def bodies(self) -> list[bytes]:
        return [delivery.wire.body for delivery in self]

    async def reach(self, expected: int) -> None:
        """Wait for `expected` deliveries in total; more are an error."""
        await until(lambda: len(self) >= expected, f"{expected} deliveries have come")
        assert len(self) == expected, self.bodies


@dataclass
class World:
    """A broker with `topology` declared, and clients whose connections can be cut."""

    topology: Topology
    make: Callable[[], Awaitable[Transport]]
    cut: Callable[[], None]
    restore: Callable[[], None]
    clients: list[Transport] = field(default_factory=list)

    async def client(self) -> Transport:
        """Return a new, connected client."""
        client = await self.make()
        await client.open()
        self.clients.append(client)
        return client

    def queue(self, worker: str) -> str:
        return queue_of(self.topology.prefix, worker)

    def command(self, worker: str, body: bytes | str = b"", **wire: Any) -> Outgoing:
        """Return the command `worker`.Do, to which the worker's queue is bound."""
        return Outgoing(Address(commands_exchange(self.topology.prefix), f"{worker}.Do", mandatory=True), message(body, **wire))

    def event(self, name: str, body: bytes | str = b"", *, mandatory: bool = False) -> Outgoing:
        return Outgoing(Address(events_exchange(self.topology.prefix), name, mandatory=mandatory), message(body))

    async def depth(self, worker: str, expected: int) -> None:
        """Wait until a worker's queue holds `expected` messages. (A quorum queue settles a moment after the client.)"""
        client = self.clients[0]

        async def reached() -> bool:
            return await client.depth(self.queue(worker)) == expected

        await until(reached, f"{expected} messages wait in {worker}")


def message(body: bytes | str = b"", **wire: Any) -> Wire:
    return Wire(body.encode() if isinstance(body, str) else body, **{"message_id": str(uuid.uuid4()), **wire})


def fresh(queues: Sequence[WorkQueue] = QUEUES, delivery_limit: int = 2) -> Topology:
    return Topology(f"t{uuid.uuid4().hex[:12]}", tuple(queues), delivery_limit)


@asynccontextmanager
async def memory_world() -> AsyncIterator[World]:
    broker = MemoryBroker()

    async def make() -> Transport:
        return MemoryTransport(broker, reconnect_timeout_s=0.2)

    async with _served(World(fresh(), make, broker.stop, broker.start)) as world:
        yield world


@asynccontextmanager
async def rabbit_world(url: str) -> AsyncIterator[World]:
    target = URL(url)
    async with Proxy(target.host or "", target.port or 5672) as proxy:
        through = str(target.with_host("127.0.0.1").with_port(proxy.port))

        async def make() -> Transport:
            return RabbitTransport(through, "contract test", reconnect_timeout_s=0.2)

        async with _served(World(fresh(), make, proxy.cut, proxy.restore)) as world:
            yield world


@asynccontextmanager
async def _served(world: World) -> AsyncIterator[World]:
    first = await world.client()
    async with AsyncExitStack() as stack:
        await first.declare(world.topology)
        stack.push_async_callback(_tidy, world)
        yield world


async def _tidy(world: World) -> None:
    """Delete the topology through a new client, because the test may have closed the others."""
    world.restore()
    for client in world.clients:
        await client.close()
    cleaner = await world.make()
    await cleaner.open()
    await cleaner.delete(world.topology)
    await cleaner.close()


async def exhaust_deliveries(transport: Transport, declared_topology: Topology, worker: str, count: int) -> None:
    """Requeue the messages of a worker's queue until the broker has dead-lettered `count` of them."""
    queue = queue_of(declared_topology.prefix, worker)
    back: list[asyncio.Task[None]] = []
    await transport.consume(queue, 10, lambda delivery: back.append(asyncio.create_task(transport.requeue([delivery]))))

    async def are_dead() -> bool:
        return await transport.depth(dead_queue(queue)) >= count

    await until(are_dead, f"{count} dead letters")
    await transport.cancel()


async def consume(world: World, client: Transport, worker: str, prefetch: int = 1000) -> Deliveries:
    """Consume a worker's queue; return the list that records its deliveries."""
    deliveries = Deliveries()
    await client.consume(world.queue(worker), prefetch, deliveries)
    return deliveries
