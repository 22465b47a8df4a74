"""A lane: one running mode as the page sees it, whatever it stands on: what is heard of it, how it is, what can be asked of it.

The embedded run's lanes are in dashboard/lanes/demo.py.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from api.broker_client import OrderNotConfirmed
from bootstrap.modes import Mode, roles
from observer.history import History
from observer.mermaid import API, PARTICIPANTS
from observer.raw_message import RawMessage
from services.vocabulary import OrderDetails

#: Orders that one request may ask a door for: it waits for all of them. So many of them are handed in at once.
API_ORDERS_MAX, API_ORDERS_AT_ONCE = 500, 64


@dataclass(frozen=True, slots=True)
class OrderToPlace:
    """An order to place. `withdrawn`: its customer takes it back at once."""

    order_id: str
    details: OrderDetails
    injected: tuple[str, ...] = ()
    withdrawn: bool = False


@dataclass(frozen=True, slots=True)
class QueueStatus:
    """A queue on the broker: how many messages wait in it, how many consumers it has."""

    name: str
    depth: int
    consumers: int


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """A worker, and whether it is at work."""

    name: str
    up: bool


@dataclass(frozen=True, slots=True)
class LaneStatus:
    """How a lane is. `at` in seconds since the epoch; `audit`: sound, broken or unknown; `messages_per_order` of those that have
    ended. `findings` and `faults` are sentences: promises that do not hold, and what is down or dead."""

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
    """What a lane's own process knows, with what was counted of its orders."""
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
    """One running mode, to look at."""

    mode: Mode

    async def changed(self, limit: int) -> list[History]:
        """The orders that something was heard of since they were last given here, as they stand.

        At most `limit` of them, the others at the next call."""

    async def newest(self, limit: int) -> list[History]:
        """The newest orders, the newest first."""

    async def order(self, order_id: str) -> tuple[History, list[RawMessage]] | None:
        """One order with its messages; None when nothing was heard of it."""

    async def status(self) -> LaneStatus: ...


class LaneControl(Protocol):
    """One running mode, to ask for something."""

    mode: Mode

    @property
    def worker_control(self) -> "WorkerControl | None":
        """None where its workers cannot be killed and revived from here."""

    @property
    def remaining_capacity(self) -> int:
        """How many more orders it takes."""

    async def place(self, orders: Sequence[OrderToPlace]) -> "PlacementResult":
        """Hand the orders in, under their ids. Once one is in it cannot be had back, so those that are not are no error."""

    async def withdraw(self, order_id: str) -> bool:
        """Take an order back; False when there is no such order here. Raises api.broker_client.NotConfirmed."""


@dataclass(frozen=True, slots=True)
class PlacementResult:
    """What came of orders that were handed in: the ids of those that were taken, and why others were not."""

    ids: tuple[str, ...]
    refusal: str | None = None


async def place_orders(
    orders: Sequence[OrderToPlace], place: Callable[[OrderToPlace], Awaitable[None]], at_once: int
) -> PlacementResult:
    """Place orders, `at_once` at a time, until one is not taken. `place` raises api.broker_client.NotConfirmed."""
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
        """Kill a worker, which then stays dead; harmless when it is dead."""

    async def revive(self, worker: str) -> None:
        """Start a worker that is dead; harmless when it is not."""


class LaneCounters:
    """Counts what a lane's histories tell."""

    def __init__(self) -> None:
        #: When each open order began, in seconds since the epoch.
        self.open: dict[str, float] = {}
        self._messages: dict[str, int] = {}
        self.messages = self._messages_of_ended = self._ended = 0

    def count(self, history: History) -> None:
        """An order as it stands now. What is heard after its end counts for its order, too."""
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
    """Who has a part in a mode, from left to right."""
    taking_part = {API, *roles(mode)}
    return [name for name in PARTICIPANTS if name in taking_part]
