"""Serves both modes in memory on one page: `saga demo --serve`."""

import asyncio
import signal
import socket
import time
from collections.abc import Callable
from contextlib import AsyncExitStack

from api.request_limits import Guard
from api.server import Server
from bootstrap.modes import Mode
from broker.environment import new_uuid7
from dashboard.app import PageApp
from dashboard.event_stream import Watching
from dashboard.lanes.demo import SHELF, EmbeddedLane
from dashboard.queries import Looking
from dashboard.security_headers import Shield


async def serve_embedded(listener: socket.socket, *, seed: int, pace_s: float, ready: Callable[[], None]) -> None:
    """Both modes in memory, served on `listener` until told to stop; `ready` is called once it is about to answer."""
    async with AsyncExitStack() as stack:
        lanes = [await stack.enter_async_context(EmbeddedLane(mode, seed=seed, pace_s=pace_s)) for mode in Mode]
        watching = Watching(lanes, time.time)
        app = PageApp(lanes, Looking(lanes, watching), seed=seed, new_id=new_uuid7, shelf=SHELF).application()
        server = Server(Shield(Guard(app)), watching.stop)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)  # uvicorn handles both, and raises them again once it has shut down
        looking = asyncio.create_task(watching.run(), name="watching")
        looking.add_done_callback(lambda _: server.end())
        ready()
        try:
            await server.serve(sockets=[listener])
        finally:
            watching.stop()
            await looking
