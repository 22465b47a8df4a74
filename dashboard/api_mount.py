"""The page as a process, or as a part of one: by itself with both modes in memory; at a door; and what the door then looks at.

Called by the CLI's `saga demo --serve`, `saga api` and `saga worker observer`.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from starlette.types import ASGIApp

from api.orders import Desk
from api.sample_orders import SKUS
from bootstrap.modes import Mode
from broker.environment import new_uuid7
from dashboard.app import PageApp
from dashboard.lanes.lane import Asked
from dashboard.lanes.local_api import LaneAtDoor
from dashboard.lanes.remote_api import LaneBeside
from dashboard.proxy import Relayed
from dashboard.security_headers import Shield


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
