"""The dashboard's HTTP application: static files, lanes, queries, and requests to place or withdraw orders and kill workers.

The contract is docs/reference/dashboard.md.
  GET   /, /page/...                                    the page and its files
  GET   /watch/lanes, /watch/orders[/MODE/ID], /watch/events, /watch/beside/events
  POST  /watch/orders[/MODE/ID/withdraw], /watch/workers/MODE/NAME/kill, .../revive
"""

import asyncio
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict
from http import HTTPStatus

from fastapi import FastAPI, Response

from api.broker_client import OrderNotConfirmed
from api.problems import RequestRefused, add_problem_handlers
from api.schemas import OrderId
from bootstrap.modes import roles
from dashboard.fault_menu import FAULT_MENU
from dashboard.lanes.lane import LaneControl, WorkerControl
from dashboard.queries import Queries, json_response, no_such_lane, no_such_order
from dashboard.schemas import OrderRequest, lane_description
from dashboard.static_files import StaticRoutes
from services.faults import InvalidFault


class DashboardApp:
    """Builds the ASGI application. `seed`: for generated orders that name no seed. `articles`: SKUs that the page offers."""

    def __init__(
        self, lanes: Sequence[LaneControl], queries: Queries, *, seed: int, new_id: Callable[[], str], articles: Collection[str]
    ) -> None:
        self._lanes = {str(lane.mode): lane for lane in lanes}
        self._queries = queries
        self._seed = seed
        self._new_id = new_id
        self._articles = list(articles)

    def application(self) -> FastAPI:
        """The application without request limits and security headers: the caller adds those middlewares."""
        app = FastAPI(title="Dashboard", openapi_url=None)
        StaticRoutes().add_routes(app)
        self._queries.add_routes(app)
        app.get("/watch/lanes")(self.lanes)
        app.post("/watch/orders")(self.place)
        app.post("/watch/orders/{mode}/{order_id}/withdraw")(self.withdraw)
        app.post("/watch/workers/{mode}/{worker}/kill")(self.kill)
        app.post("/watch/workers/{mode}/{worker}/revive")(self.revive)
        add_problem_handlers(app)
        return app

    async def lanes(self) -> Response:
        descriptions = [
            lane_description(lane.mode, events=self._queries.events_of(lane.mode), can_kill=lane.worker_control is not None)
            for lane in self._lanes.values()
        ]
        failures = [asdict(failure) for failure in FAULT_MENU]
        return json_response({"lanes": descriptions, "failures": failures, "shelf": self._articles, "seed": self._seed})

    async def place(self, request: OrderRequest) -> Response:
        """Place the same orders, under the same ids, in each requested lane."""
        lanes = [self._requested_lane(mode) for mode in dict.fromkeys(request.modes or self._lanes)]
        if request.count == 1 and not request.lines:
            raise _unprocessable("wrong_schema", "lines: an order has at least one line")
        if request.count > 1 and request.order_id:
            raise _unprocessable("wrong_schema", "order_id: only a single order can have one, but count is more than 1")
        try:
            to_place = request.generate(self._seed, self._new_id)
        except InvalidFault as error:
            raise _unprocessable("no_such_failure", str(error)[:300]) from None
        remaining_capacity = min(lane.remaining_capacity for lane in lanes)
        if remaining_capacity < len(to_place):
            raise RequestRefused(
                HTTPStatus.INSUFFICIENT_STORAGE, "full", f"this run accepts {remaining_capacity} more orders. Restart the demo."
            )
        results = dict(zip(lanes, await asyncio.gather(*(lane.place(to_place) for lane in lanes)), strict=True))
        if not any(result.ids for result in results.values()):
            each = [f"{lane.mode}: {result.refusal}" for lane, result in results.items()]
            raise _not_confirmed("; ".join(each) if len(results) > 1 else str(results[lanes[0]].refusal))
        confirmed = {lane.mode: set(result.ids) for lane, result in results.items()}
        orders = [
            {"mode": mode, "order_id": one.order_id} for one in to_place for mode, ids in confirmed.items() if one.order_id in ids
        ]
        not_taken = [
            {"mode": lane.mode, "count": len(to_place) - len(result.ids), "why": result.refusal}
            for lane, result in results.items()
            if result.refusal is not None
        ]
        return json_response({"orders": orders, "not_taken": not_taken}, HTTPStatus.ACCEPTED)

    async def withdraw(self, mode: str, order_id: OrderId) -> Response:
        try:
            if not await self._lane(mode).withdraw(order_id):
                raise no_such_order()
        except OrderNotConfirmed as error:
            raise _not_confirmed(str(error)) from None
        return json_response({"mode": mode, "order_id": order_id}, HTTPStatus.ACCEPTED)

    async def kill(self, mode: str, worker: str) -> Response:
        await self._worker_control(mode, worker).kill(worker)
        await self._queries.refresh()
        return Response(status_code=HTTPStatus.NO_CONTENT)

    async def revive(self, mode: str, worker: str) -> Response:
        await self._worker_control(mode, worker).revive(worker)
        await self._queries.refresh()
        return Response(status_code=HTTPStatus.NO_CONTENT)

    def _lane(self, mode: str) -> LaneControl:
        if mode not in self._lanes:
            raise no_such_lane(self._lanes)
        return self._lanes[mode]

    def _requested_lane(self, mode: str) -> LaneControl:
        if mode not in self._lanes:
            raise _unprocessable("wrong_schema", f"modes: there is no such lane. Choose from: {', '.join(self._lanes)}.")
        return self._lanes[mode]

    def _worker_control(self, mode: str, worker: str) -> WorkerControl:
        lane = self._lane(mode)
        if lane.worker_control is None:
            raise RequestRefused(HTTPStatus.NOT_FOUND, "cannot_kill", "workers of this lane cannot be killed from this page")
        if worker not in roles(lane.mode):
            raise RequestRefused(
                HTTPStatus.NOT_FOUND, "no_such_worker", f"no such worker. Choose from: {', '.join(roles(lane.mode))}."
            )
        return lane.worker_control


def _unprocessable(reason: str, detail: str) -> RequestRefused:
    return RequestRefused(HTTPStatus.UNPROCESSABLE_ENTITY, reason, detail)


def _not_confirmed(reason: str) -> RequestRefused:
    return RequestRefused(HTTPStatus.SERVICE_UNAVAILABLE, "not_taken", reason[:300])
