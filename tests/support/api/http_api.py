"""A door at work beside a whole mode, in memory or on real parts."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

from api.app import DoorApp
from api.event_stream import Following
from api.handlers import door_role
from api.orders import Desk, door_limits, door_topology
from api.request_limits import Guard
from bootstrap.backend import Parts
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

    desk: Desk
    following: Following
    caller: Caller

    async def ended(self, system: System, order_id: str) -> None:
        """Wait until the door has heard of the order's end."""

        async def has_ended() -> bool:
            order = await self.desk.order(order_id)
            return order is not None and order.state.ended

        await system.until(has_ended, f"the door to hear of the end of {order_id}")


def a_desk(prefix: str, parts: Parts, *, patience_s: float = 5.0) -> Desk:
    """A desk on a worker of its own, put together as `saga api` does."""
    worker = assemble(
        *(door_role(), door_topology(prefix), parts.transport("door"), parts.store("door")),
        environment=parts.sources,
        limits=door_limits(parts.limits),
    )
    return Desk(prefix, worker, patience_s=patience_s)


@asynccontextmanager
async def a_door(system: System, *, patience_s: float = 5.0, stream_s: float = 600.0) -> AsyncIterator[Door]:
    """A door of the system's mode, at work until the block ends."""
    desk = a_desk(system.door.topology.prefix, system.parts, patience_s=patience_s)
    await desk.prepare()
    following = Following(desk, stream_s=stream_s)
    app = DoorApp(desk, following, pivot_first=system.mode is Mode.CHOREOGRAPHY).application()
    working = asyncio.create_task(desk.worker.run())
    await desk.worker.ready.wait()
    try:
        yield Door(desk, following, Caller(Guard(app)))
    finally:
        desk.worker.stop()
        await working
        await desk.close()


def at_a_door(mode: Mode, program: Callable[[System, Door], Awaitable[T]]) -> T:
    """Run `program` at the door of a whole mode in memory, on virtual time."""

    async def whole(system: System) -> T:
        async with a_door(system) as door:
            return await program(system, door)

    return in_memory(mode, whole)
