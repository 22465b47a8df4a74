"""The page as a process, or as a part of one: by itself with both modes in memory; at a door; and what the door then looks at.

Called by the CLI's `saga demo --serve`, `saga api` and `saga worker observer`.
"""

import asyncio
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass

import structlog
from fastapi import FastAPI
from starlette.types import ASGIApp

from api.orders import Desk
from api.problems import answer_with_problems
from api.request_limits import Guard
from api.server import Server
from bootstrap.modes import Mode
from broker.environment import new_uuid7
from dashboard.app import PageApp
from dashboard.event_stream import Watching
from dashboard.lanes.demo import SHELF, EmbeddedLane
from dashboard.lanes.lane import Asked
from dashboard.lanes.local_api import LaneAtDoor
from dashboard.lanes.observer import ObservedLane
from dashboard.lanes.remote_api import LaneBeside
from dashboard.proxy import Relayed
from dashboard.queries import Looking
from dashboard.security_headers import Shield
from lab.storm import SKUS

log = structlog.get_logger()

#: Seconds until it is tried again to look at what is written down.
AGAIN_S = 1.0


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


@dataclass(frozen=True, slots=True)
class AtDoor:
    """The page beside a door; no `app` where nobody says where the observer is. `stop` ends its streams."""

    app: ASGIApp | None
    stop: Callable[[], None]


@asynccontextmanager
async def page_at_door(mode: Mode, desk: Desk, observer_url: str, beside: Mapping[Mode, str]) -> AsyncIterator[AtDoor]:
    """The page of one running mode, for `api.server.serve`, and of those whose doors are `beside` it."""
    if not observer_url:
        yield AtDoor(None, lambda: None)
        return
    async with AsyncExitStack() as stack:
        lanes: list[Asked] = [LaneAtDoor(mode, desk)]
        lanes += [await stack.enter_async_context(LaneBeside(other, door)) for other, door in beside.items()]
        lanes.sort(key=lambda lane: list(Mode).index(lane.mode))
        looking = Relayed(mode, observer_url, beside)
        stack.push_async_callback(looking.close)
        app = PageApp(lanes, looking, seed=1, new_id=new_uuid7, shelf=SKUS).application()
        yield AtDoor(Shield(app), looking.stop)


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
