"""The door as a process: uvicorn and the door's worker in one event loop, until SIGTERM or SIGINT.

Called by the CLI's `saga api`.
"""

import asyncio
import signal
import socket
from collections.abc import Callable

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from api.app import ApiApp
from api.event_stream import EventStreams
from api.orders import Orders
from api.request_limits import RequestLimits

#: Seconds that requests in progress have to end once a signal came; streams of events are ended at once.
GRACE_S = 3


async def serve(
    orders: Orders,
    listener: socket.socket,
    *,
    pivot_first: bool,
    on_shutdown: Callable[[], None],
    page: ASGIApp | None = None,
) -> None:
    """Serve on `listener` until told to stop. Raises what ends the worker, for then orders could no longer be taken.

    `on_shutdown` is called when the shutdown begins. `page` answers what is asked for under `/`, `/page/` and `/watch/`."""
    event_streams = EventStreams(orders)

    def shut_down() -> None:
        on_shutdown()
        event_streams.stop()

    api = ApiApp(orders, event_streams, pivot_first=pivot_first).application()
    server = Server(RequestLimits(PathSwitch(page, api) if page else api), shut_down)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)  # uvicorn handles both, and raises them again once it has shut down
    worker_task = asyncio.create_task(orders.worker.run(), name="door")
    worker_task.add_done_callback(lambda _: server.end())
    try:
        await server.serve(sockets=[listener])
    finally:
        orders.worker.stop()
        await worker_task


class PathSwitch:
    """The page beside the door, under one address. The page's own paths are never the door's."""

    def __init__(self, page: ASGIApp, api: ASGIApp) -> None:
        self._page = page
        self._api = api

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        app = self._page if path == "/" or path.startswith(("/page/", "/watch/")) else self._api
        await app(scope, receive, send)


class Server(uvicorn.Server):
    """`shut_down` is called when a shutdown begins: it has to end the streams of events, for whose end the server waits."""

    def __init__(self, app: ASGIApp, shut_down: Callable[[], None]) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                access_log=False,
                lifespan="off",
                log_config=None,  # lines go the way that the process has chosen for all of them
                log_level="warning",
                ws="none",
                server_header=False,
                timeout_graceful_shutdown=GRACE_S,
            )
        )
        self._shut_down = shut_down

    def end(self) -> None:
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._shut_down()
        await super().shutdown(sockets)
