"""The lane of another mode, asked for through the page of that mode's own door: nobody gets a right more for it.

What is looked at is relayed (dashboard/proxy.py).
"""

from collections.abc import Sequence
from http import HTTPStatus
from types import TracebackType
from typing import Any, Self

import aiohttp
from yarl import URL

from api.broker_client import NotTaken
from api.problems import Problem
from bootstrap.modes import Mode
from dashboard.fault_menu import WITHDRAWS
from dashboard.lanes.lane import DOOR_AT_ONCE, DOOR_MOST, Placed, Wanted, hand_in
from dashboard.security_headers import PROOF

#: Seconds that one answer may take, longer than a door waits for its database.
ANSWER_S = 8.0


class LaneBeside:
    """`dashboard.lanes.lane.Asked` of the mode whose door is at `url`. Use it as a context."""

    switches = None
    room = DOOR_MOST

    def __init__(self, mode: Mode, url: str) -> None:
        self.mode = mode
        self._orders = URL(url) / "watch" / "orders"

    async def __aenter__(self) -> Self:
        name, value = (part.decode() for part in PROOF)
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=ANSWER_S), headers={name: value})
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._session.close()

    async def place(self, wanted: Sequence[Wanted]) -> Placed:
        return await hand_in(wanted, self._place, DOOR_AT_ONCE)

    async def withdraw(self, order_id: str) -> bool:
        return await self._posted(self._orders / self.mode / order_id / "withdraw") is not HTTPStatus.NOT_FOUND

    async def _place(self, one: Wanted) -> None:
        failures = [",".join(one.injected)] if one.injected else []
        order = {
            "order_id": one.order_id,
            "lines": [line.model_dump(mode="json") for line in one.details.lines],
            "customer": one.details.address.name,
            "failures": [*failures, *([WITHDRAWS] if one.withdrawn else [])],
            "modes": [self.mode],
        }
        if await self._posted(self._orders, json=order) is HTTPStatus.NOT_FOUND:
            raise NotTaken(f"the door of {self.mode} has no page")

    async def _posted(self, url: URL, **request: Any) -> HTTPStatus:  # noqa: ANN401 - what aiohttp takes
        """Accepted or not found, which only a door says in this way. Raises NotTaken."""
        try:
            async with self._session.post(url, allow_redirects=False, **request) as response:
                if response.status in (HTTPStatus.ACCEPTED, HTTPStatus.NOT_FOUND):
                    return HTTPStatus(response.status)
                problem = Problem.model_validate_json(await body_of(response))
        except (TimeoutError, aiohttp.ClientError, ValueError) as error:
            raise NotTaken(f"the door of {self.mode} does not answer ({type(error).__name__})") from error
        raise NotTaken(problem.detail[:300])


#: Bytes of one answer: two hundred orders, the most that one asks for, are far less.
ANSWER_MAX_BYTES = 16 * 2**20


async def body_of(answer: aiohttp.ClientResponse) -> bytes:
    """The whole body. Raises aiohttp.ClientPayloadError if it is too long."""
    body = bytearray()
    async for chunk in answer.content.iter_any():
        body += chunk
        if len(body) > ANSWER_MAX_BYTES:
            msg = f"longer than {ANSWER_MAX_BYTES} bytes"
            raise aiohttp.ClientPayloadError(msg)
    return bytes(body)
