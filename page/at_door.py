"""The lane of a running mode as its door asks for it: an order from the page is an order like any other, with a key of its own.

Room: page/. What is looked at is relayed (page/relayed.py).
"""

import asyncio
from collections.abc import Sequence

from api.desk import Busy, Desk, NotKnownYet
from api.handlers import Answer
from lab.door import NotTaken
from lab.modes import Mode
from page.lane import Wanted

#: Orders that are handed in at once, and that one request may ask for: it waits for all of them.
AT_ONCE, MOST = 64, 500


class LaneAtDoor:
    """`page.lane.Asked` by the desk of a door."""

    can_kill = False
    room = MOST

    def __init__(self, mode: Mode, desk: Desk) -> None:
        self.mode = mode
        self._desk = desk

    async def place(self, wanted: Sequence[Wanted]) -> list[str]:
        """Those that were taken, if not all of them were: they cannot be had back, and all placed again would be twice."""
        ids: list[str] = []
        for start in range(0, len(wanted), AT_ONCE):
            placing = (self._place(one) for one in wanted[start : start + AT_ONCE])
            placed = await asyncio.gather(*placing, return_exceptions=True)
            ids += [order_id for order_id in placed if isinstance(order_id, str)]
            if failed := [error for error in placed if isinstance(error, BaseException)]:
                if not ids or not isinstance(failed[0], NotTaken):
                    raise failed[0]
                break
        return ids

    async def withdraw(self, order_id: str) -> bool:
        try:
            return (await self._desk.take_back(order_id)).answer is not Answer.NO_SUCH_ORDER
        except (Busy, NotKnownYet) as error:
            raise NotTaken(_why(error)) from error

    async def kill(self, worker: str) -> None:
        """Never asked for: `can_kill`."""

    async def revive(self, worker: str) -> None:
        """Never asked for: `can_kill`."""

    async def _place(self, one: Wanted) -> str:
        try:
            order_id = (await self._desk.take(one.order_id, one.details, one.injected)).order_id
            if one.withdrawn:
                await self._desk.take_back(order_id)
        except (Busy, NotKnownYet) as error:
            raise NotTaken(_why(error)) from error
        return order_id


def _why(error: Busy | NotKnownYet) -> str:
    busy = isinstance(error, Busy)
    return "too many requests wait for the door's database" if busy else "the door's database has not answered in time"
