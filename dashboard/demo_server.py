"""Serves both modes, in memory, on one page: `saga demo --serve`."""

import asyncio
import signal
import socket
import time
from collections.abc import Callable
from contextlib import AsyncExitStack

from api.request_limits import RequestLimits
from api.server import Server
from bootstrap.modes import Mode
from broker.environment import new_uuid7
from dashboard.app import DashboardApp
from dashboard.event_stream import HistoryStream
from dashboard.lanes.demo import DEMO_STOCK, DemoLane
from dashboard.queries import LocalQueries
from dashboard.security_headers import SecurityHeaders


async def serve_demo(listener: socket.socket, *, seed: int, pace_s: float, ready: Callable[[], None]) -> None:
    """Serve both modes on `listener` until SIGTERM or SIGINT. `ready` is called right before the server accepts requests."""
    async with AsyncExitStack() as stack:
        lanes = [await stack.enter_async_context(DemoLane(mode, seed=seed, pace_s=pace_s)) for mode in Mode]
        history_stream = HistoryStream(lanes, time.time)
        app = DashboardApp(
            lanes, LocalQueries(lanes, history_stream), seed=seed, new_id=new_uuid7, articles=DEMO_STOCK
        ).application()
        server = Server(SecurityHeaders(RequestLimits(app)), history_stream.stop)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)  # uvicorn handles both, and raises them again once it has shut down
        polling = asyncio.create_task(history_stream.run(), name="dashboard.polling")
        polling.add_done_callback(lambda _: server.end())
        ready()
        try:
            await server.serve(sockets=[listener])
        finally:
            history_stream.stop()
            await polling
