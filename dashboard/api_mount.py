"""Mounts the dashboard on the HTTP API of a running mode. Called by `saga api`."""

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
    """The dashboard beside the API. `app` is None if no observer URL is configured. `stop` ends the event streams."""

    app: ASGIApp | None
    stop: Callable[[], None]


@asynccontextmanager
async def mount_dashboard(
    mode: Mode, orders: Orders, observer_url: str, remote_apis: Mapping[Mode, str]
) -> AsyncIterator[MountedDashboard]:
    """The dashboard for `api.server.serve`: a lane for `mode`, and one for each of `remote_apis` (mode -> URL of its API)."""
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
