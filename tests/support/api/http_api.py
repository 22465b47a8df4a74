"""A door at work beside a whole mode, in memory or on real parts."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

from api.app import ApiApp
from api.event_stream import EventStreams
from api.handlers import api_role
from api.orders import Orders, api_topology, door_limits
from api.request_limits import RequestLimits
from bootstrap.backend import Backend
from bootstrap.build_worker import assemble
from bootstrap.modes import Mode
from lab.system import System
from tests.support.api.asgi_client import Caller
from tests.support.system import in_memory

#: What is heard of a happy order, in both modes.
HAPPY_EVENTS = [
    "order.OrderPlaced",
    "inventory.StockReserved",
    "payment.PaymentAuthorized",
    "delivery.DeliveryScheduled",
    "order.OrderCompleted",
]

T = TypeVar("T")


@dataclass(frozen=True)
class Door:
    """One door: its inside, and a customer in front of it."""

    orders: Orders
    following: EventStreams
    caller: Caller

    async def ended(self, system: System, order_id: str) -> None:
        """Wait until the door has heard of the order's end."""

        async def has_ended() -> bool:
            order = await self.orders.get(order_id)
            return order is not None and order.state.ended

        await system.wait_until(has_ended, f"the door to hear of the end of {order_id}")


def a_desk(prefix: str, backend: Backend, *, commit_timeout_s: float = 5.0) -> Orders:
    """A desk on a worker of its own, put together as `saga api` does."""
    worker = assemble(
        *(api_role(), api_topology(prefix), backend.transport("door"), backend.store("door")),
        environment=backend.environment,
        limits=door_limits(backend.limits),
    )
    return Orders(prefix, worker, commit_timeout_s=commit_timeout_s)


@asynccontextmanager
async def a_door(system: System, *, commit_timeout_s: float = 5.0, stream_s: float = 600.0) -> AsyncIterator[Door]:
    """A door of the system's mode, at work until the block ends."""
    orders = a_desk(system.client.topology.prefix, system.backend, commit_timeout_s=commit_timeout_s)
    await orders.prepare()
    following = EventStreams(orders, stream_s=stream_s)
    app = ApiApp(orders, following, pivot_first=system.mode is Mode.CHOREOGRAPHY).application()
    working = asyncio.create_task(orders.worker.run())
    await orders.worker.ready.wait()
    try:
        yield Door(orders, following, Caller(RequestLimits(app)))
    finally:
        orders.worker.stop()
        await working
        await orders.close()


def at_a_door(mode: Mode, program: Callable[[System, Door], Awaitable[T]]) -> T:
    """Run `program` at the door of a whole mode in memory, on virtual time."""

    async def whole(system: System) -> T:
        async with a_door(system) as door:
            return await program(system, door)

    return in_memory(mode, whole)
