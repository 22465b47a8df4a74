"""Serves what the observer's process knows to the dashboard of the HTTP API."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import structlog
from fastapi import FastAPI

from api.problems import answer_with_problems
from api.request_limits import Guard
from api.server import Server
from dashboard.event_stream import Watching
from dashboard.lanes.observer import ObservedLane
from dashboard.queries import Looking

log = structlog.get_logger()


#: Seconds until it is tried again to look at what is written down.
AGAIN_S = 1.0


@asynccontextmanager
async def served_to_door(lane: ObservedLane, listener: socket.socket) -> AsyncIterator[None]:
    """What the observer's lane shows, over HTTP, for as long as the block runs. The observer goes on whatever happens here."""
    watching = Watching([lane], time.time)
    app = FastAPI(title="What the observer hears", openapi_url=None)
    Looking([lane], watching).add_to(app)
    answer_with_problems(app)
    server = Within(Guard(app), watching.stop)
    tasks = [
        asyncio.create_task(_look(watching), name="watching"),
        asyncio.create_task(server.serve(sockets=[listener]), name="serving"),
    ]
    try:
        yield
    finally:
        watching.stop()
        server.end()
        await asyncio.wait(tasks)


async def _look(watching: Watching) -> None:
    """However often a server goes away."""
    while True:
        try:
            await watching.run()
        except Exception as error:  # noqa: BLE001 - whatever it is, the observer goes on, and so do those who watch
            log.warning("not_shown", error=repr(error)[:300])
            await asyncio.sleep(AGAIN_S)
        else:
            return


class Within(Server):
    """Leaves signals to the process that it is a part of."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
