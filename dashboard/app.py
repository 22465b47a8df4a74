"""The page over HTTP: its files, the lanes that it shows, what it follows, and what it can ask for.

The contract is docs/reference/dashboard.md.
  GET   /, /page/...                                    the page itself
  GET   /watch/lanes, /watch/orders[/MODE/ID], /watch/events, /watch/beside/events
  POST  /watch/orders[/MODE/ID/withdraw], /watch/workers/MODE/NAME/kill, .../revive
"""

import asyncio
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict
from http import HTTPStatus

from fastapi import FastAPI, Response

from api.broker_client import NotTaken
from api.problems import Refused, answer_with_problems
from api.schemas import OrderId
from bootstrap.modes import roles
from dashboard.fault_menu import FAILURES
from dashboard.lanes.lane import Asked, Switches
from dashboard.queries import Looks, no_such_lane, no_such_order, said
from dashboard.schemas import Order, drawing_of
from dashboard.static_files import Files
from services.faults import NoSuchFailure


class PageApp:
    """Makes the ASGI application. `seed` is for orders that are drawn and name none; `shelf` has the articles to offer."""

    def __init__(
        self, lanes: Sequence[Asked], looking: Looks, *, seed: int, new_id: Callable[[], str], shelf: Collection[str]
    ) -> None:
        self._lanes = {str(lane.mode): lane for lane in lanes}
        self._looking = looking
        self._seed = seed
        self._new_id = new_id
        self._shelf = list(shelf)

    def application(self) -> FastAPI:
        """Without guard and shield, which go around it."""
        app = FastAPI(title="The page", openapi_url=None)
        Files().add_to(app)
        self._looking.add_to(app)
        app.get("/watch/lanes")(self.lanes)
        app.post("/watch/orders")(self.place)
        app.post("/watch/orders/{mode}/{order_id}/withdraw")(self.withdraw)
        app.post("/watch/workers/{mode}/{worker}/kill")(self.kill)
        app.post("/watch/workers/{mode}/{worker}/revive")(self.revive)
        answer_with_problems(app)
        return app

    async def lanes(self) -> Response:
        drawings = [
            drawing_of(lane.mode, events=self._looking.events_of(lane.mode), can_kill=lane.switches is not None)
            for lane in self._lanes.values()
        ]
        failures = [asdict(failure) for failure in FAILURES]
        return said({"lanes": drawings, "failures": failures, "shelf": self._shelf, "seed": self._seed})

    async def place(self, asked: Order) -> Response:
        """The same orders in every lane, by the same ids."""
        lanes = [self._asked_for(mode) for mode in dict.fromkeys(asked.modes or self._lanes)]
        if asked.count == 1 and not asked.lines:
            raise _senseless("wrong_schema", "lines: an order has at least one line")
        if asked.count > 1 and asked.order_id:
            raise _senseless("wrong_schema", "order_id: one order can have it, and more than one are asked for")
        try:
            wanted = asked.drawn(self._seed, self._new_id)
        except NoSuchFailure as error:
            raise _senseless("no_such_failure", str(error)[:300]) from None
        room = min(lane.room for lane in lanes)
        if room < len(wanted):
            raise Refused(HTTPStatus.INSUFFICIENT_STORAGE, "full", f"this run has room for {room} more orders. Start it anew.")
        placed = dict(zip(lanes, await asyncio.gather(*(lane.place(wanted) for lane in lanes)), strict=True))
        if not any(there.ids for there in placed.values()):
            each = [f"{lane.mode}: {there.why_not}" for lane, there in placed.items()]
            raise _not_taken("; ".join(each) if len(placed) > 1 else str(placed[lanes[0]].why_not))
        taken = {lane.mode: set(there.ids) for lane, there in placed.items()}
        orders = [
            {"mode": mode, "order_id": one.order_id} for one in wanted for mode, ids in taken.items() if one.order_id in ids
        ]
        not_taken = [
            {"mode": lane.mode, "count": len(wanted) - len(there.ids), "why": there.why_not}
            for lane, there in placed.items()
            if there.why_not is not None
        ]
        return said({"orders": orders, "not_taken": not_taken}, HTTPStatus.ACCEPTED)

    async def withdraw(self, mode: str, order_id: OrderId) -> Response:
        try:
            if not await self._lane(mode).withdraw(order_id):
                raise no_such_order()
        except NotTaken as error:
            raise _not_taken(str(error)) from None
        return said({"mode": mode, "order_id": order_id}, HTTPStatus.ACCEPTED)

    async def kill(self, mode: str, worker: str) -> Response:
        await self._switches(mode, worker).kill(worker)
        await self._looking.look_again()
        return Response(status_code=HTTPStatus.NO_CONTENT)

    async def revive(self, mode: str, worker: str) -> Response:
        await self._switches(mode, worker).revive(worker)
        await self._looking.look_again()
        return Response(status_code=HTTPStatus.NO_CONTENT)

    def _lane(self, mode: str) -> Asked:
        if mode not in self._lanes:
            raise no_such_lane(self._lanes)
        return self._lanes[mode]

    def _asked_for(self, mode: str) -> Asked:
        if mode not in self._lanes:
            raise _senseless("wrong_schema", f"modes: there is no such lane. There are: {', '.join(self._lanes)}.")
        return self._lanes[mode]

    def _switches(self, mode: str, worker: str) -> Switches:
        lane = self._lane(mode)
        if lane.switches is None:
            raise Refused(HTTPStatus.NOT_FOUND, "cannot_kill", "the workers of this lane cannot be killed from here")
        if worker not in roles(lane.mode):
            raise Refused(HTTPStatus.NOT_FOUND, "no_such_worker", f"no such worker. There are: {', '.join(roles(lane.mode))}.")
        return lane.switches


def _senseless(reason: str, detail: str) -> Refused:
    return Refused(HTTPStatus.UNPROCESSABLE_ENTITY, reason, detail)


def _not_taken(why: str) -> Refused:
    return Refused(HTTPStatus.SERVICE_UNAVAILABLE, "not_taken", why[:300])
