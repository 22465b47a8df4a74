"""The lane of another mode: places and withdraws orders through the dashboard of that mode's HTTP API.

No account gets more permissions for it. Queries are forwarded to the same API (dashboard/proxy.py).
"""

from collections.abc import Sequence
from http import HTTPStatus
from types import TracebackType
from typing import Any, Self

import aiohttp
from yarl import URL

from api.broker_client import OrderNotConfirmed
from api.http_client import RESPONSE_TIMEOUT_S
from api.problems import Problem
from bootstrap.modes import Mode
from dashboard.fault_menu import CUSTOMER_WITHDRAWS
from dashboard.lanes.lane import API_ORDERS_AT_ONCE, API_ORDERS_MAX, OrderToPlace, PlacementResult, place_orders
from dashboard.security_headers import ORIGIN_HEADER


class RemoteApiLane:
    """`dashboard.lanes.lane.LaneControl` of the mode whose HTTP API is at `url`. An async context manager."""

    worker_control = None
    remaining_capacity = API_ORDERS_MAX

    def __init__(self, mode: Mode, url: str) -> None:
        self.mode = mode
        self._orders = URL(url) / "watch" / "orders"

    async def __aenter__(self) -> Self:
        name, value = (part.decode() for part in ORIGIN_HEADER)
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=RESPONSE_TIMEOUT_S), headers={name: value})
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._session.close()

    async def place(self, orders: Sequence[OrderToPlace]) -> PlacementResult:
        return await place_orders(orders, self._place, API_ORDERS_AT_ONCE)

    async def withdraw(self, order_id: str) -> bool:
        return await self._post(self._orders / self.mode / order_id / "withdraw") is not HTTPStatus.NOT_FOUND

    async def _place(self, one: OrderToPlace) -> None:
        failures = [",".join(one.injected)] if one.injected else []
        order = {
            "order_id": one.order_id,
            "lines": [line.model_dump(mode="json") for line in one.details.lines],
            "customer": one.details.address.name,
            "failures": [*failures, *([CUSTOMER_WITHDRAWS] if one.withdrawn else [])],
            "modes": [self.mode],
        }
        if await self._post(self._orders, json=order) is HTTPStatus.NOT_FOUND:
            raise OrderNotConfirmed(f"the HTTP API of {self.mode} serves no dashboard: set SAGA_OBSERVER_URL there")

    async def _post(self, url: URL, **request: Any) -> HTTPStatus:  # noqa: ANN401 - what aiohttp takes
        """The status if it is ACCEPTED or NOT_FOUND. Any other response raises OrderNotConfirmed."""
        try:
            async with self._session.post(url, allow_redirects=False, **request) as response:
                if response.status in (HTTPStatus.ACCEPTED, HTTPStatus.NOT_FOUND):
                    return HTTPStatus(response.status)
                problem = Problem.model_validate_json(await read_body(response))
        except (TimeoutError, aiohttp.ClientError, ValueError) as error:
            raise OrderNotConfirmed(f"the HTTP API of {self.mode} does not respond ({type(error).__name__})") from error
        raise OrderNotConfirmed(problem.detail[:300])


#: Maximum bytes of one response. The largest one has 200 orders (dashboard/schemas.py).
RESPONSE_MAX_BYTES = 16 * 2**20


async def read_body(response: aiohttp.ClientResponse) -> bytes:
    """Read a response's body up to RESPONSE_MAX_BYTES. Raises aiohttp.ClientPayloadError if it is longer."""
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > RESPONSE_MAX_BYTES:
            msg = f"the response is longer than {RESPONSE_MAX_BYTES} bytes"
            raise aiohttp.ClientPayloadError(msg)
    return bytes(body)
