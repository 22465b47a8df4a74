"""A running HTTP API beside a whole mode, in memory or on servers."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

from api.app import ApiApp
from api.event_stream import EventStreams
from api.handlers import api_role
from api.messages import NAME
from api.orders import Orders, api_limits, api_topology
from api.request_limits import RequestLimits
from bootstrap.backend import Backend
from bootstrap.build_worker import assemble
from bootstrap.modes import Mode
from lab.system import System
from observer.message_flow import MESSAGE_FLOWS
from tests.support.api.asgi_client import Caller
from tests.support.system import in_memory

#: The events of a happy order, in both modes.
HAPPY_EVENTS = [
    "order.OrderPlaced",
    "inventory.StockReserved",
    "payment.PaymentAuthorized",
    "delivery.DeliveryScheduled",
    "order.OrderCompleted",
]

T = TypeVar("T")


@dataclass(frozen=True)
class RunningApi:
    """One replica of the HTTP API, and a client that calls it."""

    orders: Orders
    event_streams: EventStreams
    caller: Caller

    async def ended(self, system: System, order_id: str) -> None:
        """Wait until the API has received the end of the order."""

        async def has_ended() -> bool:
            order = await self.orders.get(order_id)
            return order is not None and order.state.ended

        await system.wait_until(has_ended, f"the API to receive the end of {order_id}")


def build_orders(prefix: str, backend: Backend, *, commit_timeout_s: float = 5.0) -> Orders:
    """The API's orders on a worker of their own, built as in `saga api`."""
    worker = assemble(
        *(api_role(), api_topology(prefix), backend.transport(NAME), backend.store(NAME)),
        environment=backend.environment,
        limits=api_limits(backend.limits),
    )
    return Orders(prefix, worker, commit_timeout_s=commit_timeout_s)


@asynccontextmanager
async def running_api(system: System, *, commit_timeout_s: float = 5.0, stream_s: float = 600.0) -> AsyncIterator[RunningApi]:
    """A replica of the API of the system's mode, running until the block ends."""
    orders = build_orders(system.client.topology.prefix, system.backend, commit_timeout_s=commit_timeout_s)
    await orders.prepare()
    event_streams = EventStreams(orders, stream_s=stream_s)
    app = ApiApp(orders, event_streams, pivot_first=MESSAGE_FLOWS[system.mode].pivot_first).application()
    worker_task = asyncio.create_task(orders.worker.run())
    await orders.worker.ready.wait()
    try:
        yield RunningApi(orders, event_streams, Caller(RequestLimits(app)))
    finally:
        orders.worker.stop()
        await worker_task
        await orders.close()


def with_api(mode: Mode, program: Callable[[System, RunningApi], Awaitable[T]]) -> T:
    """Run `program` with an API beside a whole mode in memory, on virtual time."""

    async def whole(system: System) -> T:
        async with running_api(system) as api:
            return await program(system, api)

    return in_memory(mode, whole)
