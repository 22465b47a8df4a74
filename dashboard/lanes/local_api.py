"""The lane of a running mode as its door asks for it: an order from the page is an order like any other, under its own id.

What is looked at is relayed (dashboard/proxy.py).
"""

from collections.abc import Sequence
from contextlib import suppress

from api.broker_client import NotTaken
from api.handlers import Answer
from api.orders import Busy, Desk, InFlight, NotKnownYet
from bootstrap.modes import Mode
from dashboard.lanes.lane import DOOR_AT_ONCE, DOOR_MOST, Placed, Wanted, hand_in
from store.protocol import StoreError


class LaneAtDoor:
    """`dashboard.lanes.lane.Asked` by the desk of a door."""

    switches = None
    room = DOOR_MOST

    def __init__(self, mode: Mode, desk: Desk) -> None:
        self.mode = mode
        self._desk = desk

    async def place(self, wanted: Sequence[Wanted]) -> Placed:
        return await hand_in(wanted, self._place, DOOR_AT_ONCE)

    async def withdraw(self, order_id: str) -> bool:
        try:
            return (await self._desk.take_back(order_id)).answer is not Answer.NO_SUCH_ORDER
        except (Busy, NotKnownYet) as error:
            raise NotTaken(error.why) from error

    async def _place(self, one: Wanted) -> None:
        """The order's id is its key, too, so the same order again is no second one."""
        try:
            answered = await self._desk.take(one.order_id, one.details, one.injected, order_id=one.order_id)
            if answered.answer is not Answer.TAKEN or answered.order_id != one.order_id:
                raise NotTaken("its id belongs to another order")
        except (Busy, InFlight, NotKnownYet) as error:
            raise NotTaken(error.why) from error
        except StoreError as error:
            raise NotTaken(str(error)) from error
        if one.withdrawn:
            with suppress(Busy, NotKnownYet, StoreError):  # it is in, whatever comes of this
                await self._desk.take_back(one.order_id)
