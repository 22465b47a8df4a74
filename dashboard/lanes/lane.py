"""Lane protocols: one running mode as the dashboard sees it, on whatever back end.

LaneView reads orders and status, LaneControl places and withdraws orders, WorkerControl kills and revives workers.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from api.broker_client import OrderNotConfirmed
from bootstrap.modes import Mode, roles
from observer.history import History
from observer.mermaid import PARTICIPANTS
from observer.raw_message import RawMessage
from services.message_types import API_NAME
from services.vocabulary import OrderDetails

#: Maximum orders in one request to an HTTP API, which waits for all of them, and how many are placed concurrently.
API_ORDERS_MAX, API_ORDERS_AT_ONCE = 500, 64


@dataclass(frozen=True, slots=True)
class OrderToPlace:
    """An order to place. `withdrawn`: the customer withdraws it as soon as it is placed."""

    order_id: str
    details: OrderDetails
    injected: tuple[str, ...] = ()
    withdrawn: bool = False


@dataclass(frozen=True, slots=True)
class QueueStatus:
    """A queue on the broker: its waiting messages and its consumers."""

    name: str
    depth: int
    consumers: int


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """A worker, and whether it is running."""

    name: str
    up: bool


@dataclass(frozen=True, slots=True)
class LaneStatus:
    """Status of a lane. `at` in seconds since the epoch; `audit`: sound, broken or unknown; `messages_per_order`: mean of the
    ended orders. `findings` and `faults` are sentences: broken promises, and workers that are down or have dead letters."""

    mode: str
    at: float
    open: int
    oldest_open_s: float | None
    audit: str
    findings: tuple[str, ...]
    orders: int
    messages: int
    messages_per_order: float | None
    queues: tuple[QueueStatus, ...]
    workers: tuple[WorkerStatus, ...]
    faults: tuple[str, ...]


def lane_status(
    mode: Mode,
    now: float,
    counters: "LaneCounters",
    *,
    audit: str,
    findings: Sequence[str] = (),
    queues: Iterable[QueueStatus],
    workers: Iterable[WorkerStatus],
    faults: Iterable[str],
) -> LaneStatus:
    """The status of a lane, with the counters of its orders."""
    return LaneStatus(
        mode=mode,
        at=now,
        open=len(counters.open),
        oldest_open_s=round(now - min(counters.open.values()), 3) if counters.open else None,
        audit=audit,
        findings=tuple(findings),
        orders=counters.orders,
        messages=counters.messages,
        messages_per_order=counters.messages_per_order,
        queues=tuple(queues),
        workers=tuple(workers),
        faults=tuple(faults),
    )


class LaneView(Protocol):
    """Read access to one running mode."""

    mode: Mode

    async def changed(self, limit: int) -> list[History]:
        """The current histories of orders that have changed since a call last returned them.

        At most `limit`; the others at the next call."""

    async def newest(self, limit: int) -> list[History]:
        """The newest orders, newest first."""

    async def order(self, order_id: str) -> tuple[History, list[RawMessage]] | None:
        """One order with its messages; None if no message of it was observed."""

    async def status(self) -> LaneStatus: ...


class LaneControl(Protocol):
    """Write access to one running mode: places and withdraws orders."""

    mode: Mode

    @property
    def worker_control(self) -> "WorkerControl | None":
        """None if the workers cannot be killed and revived from here."""

    @property
    def remaining_capacity(self) -> int:
        """How many more orders it accepts."""

    async def place(self, orders: Sequence[OrderToPlace]) -> "PlacementResult":
        """Place the orders under their ids. Partial success is a result, not an error: placed orders cannot be undone here."""

    async def withdraw(self, order_id: str) -> bool:
        """Withdraw an order; False if it does not exist here. Raises api.broker_client.OrderNotConfirmed."""


@dataclass(frozen=True, slots=True)
class PlacementResult:
    """The ids of the orders that were accepted, and why the others were refused."""

    ids: tuple[str, ...]
    refusal: str | None = None


async def place_orders(
    orders: Sequence[OrderToPlace], place: Callable[[OrderToPlace], Awaitable[None]], at_once: int
) -> PlacementResult:
    """Place orders, `at_once` at a time, until one is refused. `place` raises api.broker_client.OrderNotConfirmed."""
    ids: list[str] = []
    for start in range(0, len(orders), at_once):
        some = orders[start : start + at_once]
        errors = await asyncio.gather(*map(place, some), return_exceptions=True)
        ids += [one.order_id for one, error in zip(some, errors, strict=True) if error is None]
        for error in errors:
            if isinstance(error, OrderNotConfirmed):
                return PlacementResult(tuple(ids), str(error))
            if error is not None:
                raise error
    return PlacementResult(tuple(ids))


class WorkerControl(Protocol):
    """The workers of one running mode."""

    async def kill(self, worker: str) -> None:
        """Kill a worker, which then stays down. No effect if it is down."""

    async def revive(self, worker: str) -> None:
        """Start a worker that is down. No effect if it is running."""


class LaneCounters:
    """Counts orders and messages from a lane's histories."""

    def __init__(self) -> None:
        #: Open order -> when it began, in seconds since the epoch.
        self.open: dict[str, float] = {}
        self._messages: dict[str, int] = {}
        self.messages = self._messages_of_ended = self._ended = 0

    def count(self, history: History) -> None:
        """Count an order's current history. Messages observed after its end count for it, too."""
        before = self._messages.get(history.order_id, 0)
        was_ended = before > 0 and history.order_id not in self.open
        now = self._messages[history.order_id] = len(history.entries)
        self.messages += now - before
        if history.ended:
            self.open.pop(history.order_id, None)
            self._ended += not was_ended
            self._messages_of_ended += now - (before if was_ended else 0)
        else:
            self.open[history.order_id] = history.began_at

    @property
    def orders(self) -> int:
        return len(self._messages)

    @property
    def messages_per_order(self) -> float | None:
        return round(self._messages_of_ended / self._ended, 2) if self._ended else None


def columns_of(mode: Mode) -> list[str]:
    """The participants of a mode, from left to right."""
    participants = {API_NAME, *roles(mode)}
    return [name for name in PARTICIPANTS if name in participants]
