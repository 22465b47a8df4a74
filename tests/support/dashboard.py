"""The dashboard of both modes, in memory and on virtual time, and a client that calls it."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from api.request_limits import RequestLimits
from bootstrap.memory_backend import seeded_environment
from bootstrap.modes import Mode
from dashboard.app import DashboardApp
from dashboard.event_stream import HistoryStream
from dashboard.lanes.audit_light import run_audit
from dashboard.lanes.demo import DEMO_STOCK, DemoLane
from dashboard.queries import LocalQueries
from dashboard.security_headers import SecurityHeaders
from lab.virtual_time import run_on_virtual_time
from tests.support.api.asgi_client import Caller, Reply, Stream

T = TypeVar("T")
Event = Mapping[str, Any]

#: An order as the form sends it.
AN_ORDER = {"lines": [{"sku": "book", "quantity": 2}], "customer": "Ada"}
MODES = tuple(Mode)


@dataclass
class Page:
    """The parts of a dashboard, and a client in front of it."""

    lanes: Mapping[str, DemoLane]
    history_stream: HistoryStream
    caller: Caller

    async def post(self, path: str, body: object = None, **headers: str) -> Reply:
        """Send a request as the page's own script does."""
        content = b"" if body is None else json.dumps(body).encode()
        return await self.caller.call("POST", path, content, **{"content_type": "application/json", "x_saga": "page"} | headers)

    async def get(self, path: str) -> Any:
        reply = await self.caller.call("GET", path)
        assert reply.status == 200, reply.body
        return reply.json

    async def place(self, *failures: str, **more: Any) -> list[dict[str, str]]:
        """Place orders, which must be accepted. Returns the mode and id of each."""
        reply = await self.post("/watch/orders", {**AN_ORDER, "failures": failures, **more})
        assert reply.status == 202, reply.body
        return list(reply.json["orders"])

    async def shown(self, order: Mapping[str, str]) -> Any:
        """An order as the page shows it."""
        return await self.get(f"/watch/orders/{order['mode']}/{order['order_id']}")

    async def at_rest(self, orders: Sequence[Mapping[str, str]]) -> list[Any]:
        """Wait until every order has ended or needs attention. Returns them as the page shows them."""
        async with asyncio.timeout(200):
            for order in orders:
                while True:
                    found = await self.lanes[order["mode"]].order(order["order_id"])
                    if found and found[0].state in ("COMPLETED", "REJECTED", "NEEDS_ATTENTION"):
                        break
                    await asyncio.sleep(0.1)
        return [await self.shown(order) for order in orders]

    @asynccontextmanager
    async def following(self, last: str | None = None) -> AsyncIterator[Stream]:
        headers = {"last_event_id": last} if last else {}
        async with self.caller.following("/watch/events", **headers) as stream:
            yield stream


async def events_until(stream: Stream, wanted: Callable[[Event], bool]) -> list[dict[str, Any]]:
    """The events up to and including the first that is wanted."""
    events = []
    while not events or not wanted(events[-1]):
        events.append(await stream.next())
    return events


def is_ready(event: Event) -> bool:
    return bool(event["event"] == "ready")


def orders_in(events: Sequence[Event]) -> list[Any]:
    return [event["data"] for event in events if event["event"] == "order"]


@asynccontextmanager
async def open_page(*, seed: int = 1, pace_s: float = 0.25) -> AsyncIterator[Page]:
    """Both modes and their page, while the block runs."""
    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as stack:
        made = [DemoLane(mode, seed=seed, pace_s=pace_s, clock=loop.time, run_audit=run_audit) for mode in MODES]
        lanes = [await stack.enter_async_context(lane) for lane in made]
        history_stream = HistoryStream(lanes, loop.time)
        new_id = seeded_environment(seed + 1, loop.time).new_id
        app = DashboardApp(
            lanes, LocalQueries(lanes, history_stream), seed=seed, new_id=new_id, articles=DEMO_STOCK
        ).application()
        polling = asyncio.create_task(history_stream.run())
        try:
            yield Page({str(lane.mode): lane for lane in lanes}, history_stream, Caller(SecurityHeaders(RequestLimits(app))))
        finally:
            history_stream.stop()
            await polling


def run_with_page(program: Callable[[Page], Awaitable[T]], *, pace_s: float = 0.25) -> T:
    """Run `program` with a page, on virtual time."""

    async def whole() -> T:
        async with open_page(pace_s=pace_s) as page:
            return await program(page)

    return run_on_virtual_time(whole())
