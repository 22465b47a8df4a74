"""A mode in memory and in real time, with its observer, its HTTP API and the dashboard at that API.

The API reaches its observer and other APIs by real sockets. As a process:
`python -m tests.support.dashboard_stack MODE PORT [MODE=URL]`.
"""

import asyncio
import json
import socket
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from api.request_limits import RequestLimits
from api.sample_orders import SKUS
from api.server import PathSwitch
from bootstrap.memory_backend import MemoryBackend
from bootstrap.modes import Mode, topology
from broker.transport import TransportUnavailable
from dashboard.api_mount import MountedDashboard, mount_dashboard
from dashboard.lanes.observer import ObserverLane
from dashboard.observer_mount import ServerWithoutSignals, serve_observer_lane
from lab.system import System, set_up_stock
from observer.recorder import NAME as OBSERVER
from observer.recorder import Observer
from tests.support.api.asgi_client import Caller
from tests.support.api.http_api import RunningApi, running_api
from tests.support.dashboard import AN_ORDER

ORDERS = "/watch/orders"


class Counts:
    """Queue counts of a broker; None: the broker is away."""

    def __init__(self, counts: Mapping[str, tuple[int, int]] | None) -> None:
        self._counts = counts

    async def counts(self, queues: Sequence[str]) -> Mapping[str, tuple[int, int]]:
        if self._counts is None:
            raise TransportUnavailable("away")
        return {name: self._counts.get(name, (0, 1)) for name in queues}


@dataclass
class Stack:
    """A mode with its observer, and a client at its HTTP API. Closing `observing` takes the observer's server away."""

    system: System
    caller: Caller
    api: RunningApi
    page: MountedDashboard
    observing: AsyncExitStack

    async def post(self, path: str, body: object = None) -> Any:
        content = b"" if body is None else json.dumps(body).encode()
        return await self.caller.call("POST", path, content, content_type="application/json", x_saga="page")

    async def place(self, *failures: str, **more: Any) -> Any:
        """Place orders, at least one of which must be accepted. Returns the response."""
        reply = await self.post(ORDERS, {**AN_ORDER, "failures": failures, **more})
        assert reply.status == 202, reply.body
        return reply.json

    async def place_all(self, *failures: str, **more: Any) -> list[str]:
        """Place orders, all of which must be accepted, in this mode alone. Returns their ids."""
        reply = await self.place(*failures, **more)
        assert reply["not_taken"] == []
        assert {order["mode"] for order in reply["orders"]} == {self.system.mode}
        return [order["order_id"] for order in reply["orders"]]


@asynccontextmanager
async def open_stack(mode: Mode, remote_apis: Mapping[Mode, str] | None = None) -> AsyncIterator[Stack]:
    async with AsyncExitStack() as stack:
        backend = MemoryBackend(mode)
        system = await stack.enter_async_context(System(mode, backend))
        await set_up_stock(system.stores["inventory"], {"book": 100} | dict.fromkeys(SKUS, 10_000))
        api = await stack.enter_async_context(running_api(system))
        store, transport = backend.store(OBSERVER), backend.transport(OBSERVER)
        lane = ObserverLane(mode, Counts({}), store, backend.environment.now)
        observer = Observer(
            topology(mode), transport, store, backend.environment, linger_s=0.02, on_recorded=lane.history_feed.mark_changed
        )
        recording = asyncio.create_task(observer.run())
        stack.push_async_callback(transport.close)
        stack.push_async_callback(lambda: asyncio.wait([recording]))
        stack.callback(observer.stop)
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        observing = await stack.enter_async_context(AsyncExitStack())
        await observing.enter_async_context(serve_observer_lane(lane, listener))
        page = await stack.enter_async_context(mount_dashboard(mode, api.orders, url_of(listener), remote_apis or {}))
        assert page.app is not None
        await observer.ready.wait()
        yield Stack(system, Caller(PathSwitch(page.app, api.caller._app)), api, page, observing)


@asynccontextmanager
async def served(at: Stack, port: int = 0) -> AsyncIterator[str]:
    """The HTTP API of a stack on a socket, while the block runs. Yields its URL."""
    with socket.create_server(("127.0.0.1", port)) as listener:
        server = ServerWithoutSignals(RequestLimits(at.caller._app), at.page.stop)
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield url_of(listener)
        finally:
            server.end()
            await serving


def url_of(listener: socket.socket) -> str:
    return f"http://127.0.0.1:{listener.getsockname()[1]}"


def run_bounded(program: Any) -> None:
    """Run a coroutine for at most 30 seconds."""

    async def bounded() -> None:
        async with asyncio.timeout(30):
            await program

    asyncio.run(bounded())


async def main(mode: str, port: str, *remote_apis: str) -> None:
    others = dict(text.split("=", 1) for text in remote_apis)
    async with open_stack(Mode(mode), {Mode(other): url for other, url in others.items()}) as at, served(at, int(port)):
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
