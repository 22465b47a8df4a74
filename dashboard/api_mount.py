"""The page as a process, or as a part of one: by itself with both modes in memory; at a door; and what the door then looks at.

Called by the CLI's `saga demo --serve`, `saga api` and `saga worker observer`.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from starlette.types import ASGIApp

from api.orders import Orders
from api.sample_orders import SKUS
from bootstrap.modes import Mode
from broker.environment import new_uuid7
from dashboard.app import DashboardApp
from dashboard.lanes.lane import LaneControl
from dashboard.lanes.local_api import LocalApiLane
from dashboard.lanes.remote_api import RemoteApiLane
from dashboard.proxy import ProxiedQueries
from dashboard.security_headers import SecurityHeaders


@dataclass(frozen=True, slots=True)
class MountedDashboard:
    """The page beside a door; no `app` where nobody says where the observer is. `stop` ends its streams."""

    app: ASGIApp | None
    stop: Callable[[], None]


@asynccontextmanager
async def mount_dashboard(
    mode: Mode, orders: Orders, observer_url: str, remote_apis: Mapping[Mode, str]
) -> AsyncIterator[MountedDashboard]:
    """The page of one running mode, for `api.server.serve`, and of those whose doors are `beside` it."""
    if not observer_url:
        yield MountedDashboard(None, lambda: None)
        return
    async with AsyncExitStack() as stack:
        lanes: list[LaneControl] = [LocalApiLane(mode, orders)]
        lanes += [await stack.enter_async_context(RemoteApiLane(other, url)) for other, url in remote_apis.items()]
        lanes.sort(key=lambda lane: list(Mode).index(lane.mode))
        queries = ProxiedQueries(mode, observer_url, remote_apis)
        stack.push_async_callback(queries.close)
        app = DashboardApp(lanes, queries, seed=1, new_id=new_uuid7, articles=SKUS).application()
        yield MountedDashboard(SecurityHeaders(app), queries.stop)
