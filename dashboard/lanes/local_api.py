"""The lane of this HTTP API's own mode: places and withdraws orders through the API's application service.

Its queries are forwarded to the observer (dashboard/proxy.py).
"""

from collections.abc import Sequence
from contextlib import suppress

from api.broker_client import OrderNotConfirmed
from api.handlers import RequestResult
from api.orders import CommitTimeout, KeyInFlight, Orders, TooManyRequests
from bootstrap.modes import Mode
from dashboard.lanes.lane import API_ORDERS_AT_ONCE, API_ORDERS_MAX, OrderToPlace, PlacementResult, place_orders
from store.protocol import StoreError


class LocalApiLane:
    """`dashboard.lanes.lane.LaneControl` on `api.orders.Orders`."""

    worker_control = None
    remaining_capacity = API_ORDERS_MAX

    def __init__(self, mode: Mode, orders: Orders) -> None:
        self.mode = mode
        self._orders = orders

    async def place(self, orders: Sequence[OrderToPlace]) -> PlacementResult:
        return await place_orders(orders, self._place, API_ORDERS_AT_ONCE)

    async def withdraw(self, order_id: str) -> bool:
        try:
            return (await self._orders.withdraw(order_id)).result is not RequestResult.NO_SUCH_ORDER
        except (TooManyRequests, CommitTimeout) as error:
            raise OrderNotConfirmed(error.why) from error

    async def _place(self, one: OrderToPlace) -> None:
        """Place one order. Its id is also its idempotency key, so a repeated request does not create a second order."""
        try:
            outcome = await self._orders.place(one.order_id, one.details, one.injected, order_id=one.order_id)
            if outcome.result is not RequestResult.ACCEPTED or outcome.order_id != one.order_id:
                raise OrderNotConfirmed("its id belongs to another order")
        except (TooManyRequests, KeyInFlight, CommitTimeout) as error:
            raise OrderNotConfirmed(error.why) from error
        except StoreError as error:
            raise OrderNotConfirmed(str(error)) from error
        if one.withdrawn:
            with suppress(TooManyRequests, CommitTimeout, StoreError):  # the order is placed in any case
                await self._orders.withdraw(one.order_id)
