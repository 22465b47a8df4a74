"""`saga order … --via http://…`: the same commands as a customer of the HTTP door, who sees neither broker nor database.

cli/commands/order.py parses and prints; this asks the door.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from api.documents import ApiOrderState
from api.http_client import ApiRefused, ApiUnreachable, HttpOrderClient, order_summary
from cli.output import Code, console, stop
from services.vocabulary import OrderDetails

#: Seconds that one thing is asked for: a person is waiting.
RETRY_FOR_S = 10.0
#: Between two looks at an order that is followed.
POLL_S = 0.1


@contextmanager
def exit_on_api_error() -> Iterator[None]:
    """Turn what can go wrong at a door into a sentence and an exit code."""
    try:
        yield
    except ApiUnreachable as error:
        stop(Code.SERVER_MISSING, f"{error}. Start it: saga api.")
    except ApiRefused as error:
        stop(Code.FAILED, f"{error}.")


@asynccontextmanager
async def _http_client(url: str) -> AsyncIterator[HttpOrderClient]:
    with exit_on_api_error():
        async with HttpOrderClient(url, retry_for_s=RETRY_FOR_S) as client:
            yield client


async def place(url: str, details: OrderDetails, failures: list[str], follow_for_s: float | None) -> dict[str, str | None]:
    """Place an order, and follow it for so long."""
    async with _http_client(url) as client:
        order_id = await client.place(details, failures)
        if follow_for_s is None:
            return {"order_id": order_id, "state": str(ApiOrderState.ACCEPTED), "reason": None}
        with console.status(f"order {order_id} is under way"):
            return await _wait_for_end(client, order_id, follow_for_s)


async def withdraw(url: str, order_id: str, follow_for_s: float | None) -> dict[str, str | None]:
    """Take an order back, and follow it for so long. One that has ended is shown as it is."""
    async with _http_client(url) as client:
        try:
            await client.withdraw(order_id)
        except ApiRefused as refused:
            if refused.reason != "already_ended":
                raise
        return await _wait_for_end(client, order_id, follow_for_s or 0.0)


async def show(url: str, order_id: str) -> dict[str, Any]:
    """All that the door shows of an order."""
    async with _http_client(url) as client:
        return await client.order(order_id)


async def newest(url: str, state: str | None, limit: int) -> list[dict[str, Any]]:
    """The newest orders that the door knows, as many as it shows at once."""
    from api.schemas import ORDERS_MAX  # noqa: PLC0415 - on a web framework, which takes longer to load than all of this

    async with _http_client(url) as client:
        return await client.orders(state, min(limit, ORDERS_MAX))


async def _wait_for_end(client: HttpOrderClient, order_id: str, follow_for_s: float) -> dict[str, str | None]:
    """Where an order stands when nothing moves it any more, or when patience is over."""
    deadline = time.monotonic() + follow_for_s
    while True:
        order = await client.order(order_id)
        if order["state"] not in (ApiOrderState.ACCEPTED, ApiOrderState.PENDING) or time.monotonic() > deadline:
            return order_summary(order)
        await asyncio.sleep(POLL_S)
