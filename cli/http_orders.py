"""The commands of `saga order … --via URL`, as requests to an HTTP API: no broker, no database.

cli/commands/order.py parses and prints.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from api.http_client import ApiRefused, ApiUnreachable, HttpOrderClient, order_summary
from cli.output import Code, console, stop
from services.vocabulary import ObservedState, OrderDetails

#: Seconds that one request is retried: short, because a person is waiting.
RETRY_FOR_S = 10.0
#: Seconds between two polls of an order that is followed.
POLL_S = 0.1


@contextmanager
def exit_on_api_error() -> Iterator[None]:
    """Turn an error of an HTTP API into a sentence and an exit code."""
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
    """Place an order and follow it for `follow_for_s` seconds; None returns as soon as the API has accepted it."""
    async with _http_client(url) as client:
        order_id = await client.place(details, failures)
        if follow_for_s is None:
            return {"order_id": order_id, "state": str(ObservedState.ACCEPTED), "reason": None}
        with console.status(f"order {order_id} is in progress"):
            return await _wait_for_end(client, order_id, follow_for_s)


async def withdraw(url: str, order_id: str, follow_for_s: float | None) -> dict[str, str | None]:
    """Withdraw an order and follow it for `follow_for_s` seconds. An order that has ended is returned as it is."""
    async with _http_client(url) as client:
        try:
            await client.withdraw(order_id)
        except ApiRefused as refused:
            if refused.reason != "already_ended":
                raise
        return await _wait_for_end(client, order_id, follow_for_s or 0.0)


async def show(url: str, order_id: str) -> dict[str, Any]:
    """The document of an order, as the API returns it."""
    async with _http_client(url) as client:
        return await client.order(order_id)


async def newest(url: str, state: str | None, limit: int) -> list[dict[str, Any]]:
    """The newest orders that the API knows: `limit` of them, or as many as it returns at once."""
    from api.schemas import ORDERS_MAX  # noqa: PLC0415 - imports a web framework, which the other functions do not need

    async with _http_client(url) as client:
        return await client.orders(state, min(limit, ORDERS_MAX))


async def _wait_for_end(client: HttpOrderClient, order_id: str, follow_for_s: float) -> dict[str, str | None]:
    """The state of an order once it has ended or needs attention, or when `follow_for_s` is over."""
    deadline = time.monotonic() + follow_for_s
    while True:
        order = await client.order(order_id)
        if order["state"] not in (ObservedState.ACCEPTED, ObservedState.PENDING) or time.monotonic() > deadline:
            return order_summary(order)
        await asyncio.sleep(POLL_S)
