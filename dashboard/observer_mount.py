"""Serves the observer's recordings over HTTP, inside the observer's process, to the dashboard of the HTTP API."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import structlog
from fastapi import FastAPI

from api.problems import add_problem_handlers
from api.request_limits import RequestLimits
from api.server import Server
from dashboard.event_stream import HistoryStream
from dashboard.lanes.observer import ObserverLane
from dashboard.queries import LocalQueries

log = structlog.get_logger()


#: Seconds until polling starts again after it failed.
RETRY_S = 1.0


@asynccontextmanager
async def serve_observer_lane(lane: ObserverLane, listener: socket.socket) -> AsyncIterator[None]:
    """Serve the observer's lane on `listener` while the block runs. A failure of polling does not end the observer."""
    history_stream = HistoryStream([lane], time.time)
    app = FastAPI(title="Observer", openapi_url=None)
    LocalQueries([lane], history_stream).add_routes(app)
    add_problem_handlers(app)
    server = ServerWithoutSignals(RequestLimits(app), history_stream.stop)
    tasks = [
        asyncio.create_task(_poll_until_stopped(history_stream), name="dashboard.polling"),
        asyncio.create_task(server.serve(sockets=[listener]), name="dashboard.serving"),
    ]
    try:
        yield
    finally:
        history_stream.stop()
        server.end()
        await asyncio.wait(tasks)


async def _poll_until_stopped(history_stream: HistoryStream) -> None:
    """Run the stream until it is stopped; run it again after each failure."""
    while True:
        try:
            await history_stream.run()
        except Exception as error:  # noqa: BLE001 - whatever it is, the observer goes on recording and clients stay connected
            log.warning("dashboard_poll_failed", error=repr(error)[:300])
            await asyncio.sleep(RETRY_S)
        else:
            return


class ServerWithoutSignals(Server):
    """A server that leaves signals to the process that it is a part of."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
