"""The API's process: uvicorn and the API's worker in one event loop, until SIGTERM or SIGINT.

Called by `saga api`.
"""

import asyncio
import signal
import socket
from collections.abc import Callable

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from api.app import ApiApp
from api.event_stream import EventStreams
from api.messages import NAME
from api.orders import Orders
from api.request_limits import RequestLimits

#: Seconds that requests in progress have to finish after a signal. Event streams are ended at once.
GRACE_S = 3


async def serve(
    orders: Orders,
    listener: socket.socket,
    *,
    pivot_first: bool,
    on_shutdown: Callable[[], None],
    page: ASGIApp | None = None,
) -> None:
    """Serve on `listener` until a signal. A worker that fails ends the server, and its error is raised.

    `on_shutdown` is called when the shutdown begins. `page` serves the paths `/`, `/page/` and `/watch/`."""
    event_streams = EventStreams(orders)

    def shut_down() -> None:
        on_shutdown()
        event_streams.stop()

    api = ApiApp(orders, event_streams, pivot_first=pivot_first).application()
    server = Server(RequestLimits(PathSwitch(page, api) if page else api), shut_down)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)  # uvicorn handles both, and raises them again once it has shut down
    worker_task = asyncio.create_task(orders.worker.run(), name=NAME)
    worker_task.add_done_callback(lambda _: server.end())
    try:
        await server.serve(sockets=[listener])
    finally:
        orders.worker.stop()
        await worker_task


class PathSwitch:
    """Routes the dashboard's paths to `page` and all others to `api`, under one address."""

    def __init__(self, page: ASGIApp, api: ASGIApp) -> None:
        self._page = page
        self._api = api

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        app = self._page if path == "/" or path.startswith(("/page/", "/watch/")) else self._api
        await app(scope, receive, send)


class Server(uvicorn.Server):
    """A uvicorn server that calls `shut_down` when its shutdown begins, to end the event streams that it would wait for."""

    def __init__(self, app: ASGIApp, shut_down: Callable[[], None]) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                access_log=False,
                lifespan="off",
                log_config=None,  # the process has configured logging
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
