"""`saga order … --via http://…`: the same commands as a customer of the HTTP door, who sees neither broker nor database.

cli/commands/order.py parses and prints; this asks the door.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from api.documents import State
from api.http_client import Customer, DoorRefused, DoorUnreachable, brief
from cli.output import Code, console, stop
from services.vocabulary import OrderDetails

#: Seconds that one thing is asked for: a person is waiting.
PATIENCE_S = 10.0
#: Between two looks at an order that is followed.
LOOK_S = 0.1


@contextmanager
def at_door() -> Iterator[None]:
    """Turn what can go wrong at a door into a sentence and an exit code."""
    try:
        yield
    except DoorUnreachable as error:
        stop(Code.SERVER_MISSING, f"{error}. Start it: saga api.")
    except DoorRefused as error:
        stop(Code.FAILED, f"{error}.")


@asynccontextmanager
async def _customer(url: str) -> AsyncIterator[Customer]:
    with at_door():
        async with Customer(url, patience_s=PATIENCE_S) as customer:
            yield customer


async def place(url: str, details: OrderDetails, failures: list[str], patience_s: float | None) -> dict[str, str | None]:
    """Place an order, and follow it for so long."""
    async with _customer(url) as customer:
        order_id = await customer.place(details, failures)
        if patience_s is None:
            return {"order_id": order_id, "state": str(State.ACCEPTED), "reason": None}
        with console.status(f"order {order_id} is under way"):
            return await _followed(customer, order_id, patience_s)


async def withdraw(url: str, order_id: str, patience_s: float | None) -> dict[str, str | None]:
    """Take an order back, and follow it for so long. One that has ended is shown as it is."""
    async with _customer(url) as customer:
        try:
            await customer.withdraw(order_id)
        except DoorRefused as refused:
            if refused.reason != "already_ended":
                raise
        return await _followed(customer, order_id, patience_s or 0.0)


async def show(url: str, order_id: str) -> dict[str, Any]:
    """All that the door shows of an order."""
    async with _customer(url) as customer:
        return await customer.order(order_id)


async def newest(url: str, state: str | None, limit: int) -> list[dict[str, Any]]:
    """The newest orders that the door knows, as many as it shows at once."""
    from api.schemas import ORDERS_MAX  # noqa: PLC0415 - on a web framework, which takes longer to load than all of this

    async with _customer(url) as customer:
        return await customer.orders(state, min(limit, ORDERS_MAX))


async def _followed(customer: Customer, order_id: str, patience_s: float) -> dict[str, str | None]:
    """Where an order stands when nothing moves it any more, or when patience is over."""
    deadline = time.monotonic() + patience_s
    while True:
        order = await customer.order(order_id)
        if order["state"] not in (State.ACCEPTED, State.PENDING) or time.monotonic() > deadline:
            return brief(order)
        await asyncio.sleep(LOOK_S)
