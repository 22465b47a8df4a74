"""Server-sent events of the dashboard: an order's whole history whenever it changes, and the status of each lane.

The lanes are polled once for all clients. A client holds only a position in one shared list, so a slow client gets each order
once, in its newest version. Event numbers grow within an epoch, the lifetime of this process.
"""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import takewhile

from dashboard.lanes.lane import LaneView
from observer.history import History

#: Seconds between two polls of a lane's orders, and of its status.
POLL_S, STATUS_POLL_S = 0.2, 1.0
#: Maximum histories of one lane in one poll; histories recorded without yielding to the event loop, and events sent in one chunk.
POLL_MAX, AT_ONCE = 100, 20
#: Newest orders of each lane that a new client gets besides the open ones; ended orders of each lane that are kept.
NEWEST, KEPT_MAX = 200, 1_000
#: Seconds without a message after which an open order counts as stuck: longer than the demo's order deadline.
STUCK_S = 20.0

#: A lane's mode and an order's id.
Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class StreamedOrder:
    """An order's newest event. `number` grows with each event of the stream."""

    key: Key
    number: int
    history: History
    stuck: bool
    event: bytes


class HistoryStream:
    """The event streams of all clients. `run` polls the lanes until `stop`, which also ends the streams."""

    def __init__(self, lanes: Sequence[LaneView], now: Callable[[], float]) -> None:
        self._lanes = lanes
        self._now = now
        self.epoch = f"{int(now() * 1000):x}"
        self._number = 0
        #: The highest number of an order that was dropped.
        self._dropped = 0
        #: In the order of their last change.
        self._orders: dict[Key, StreamedOrder] = {}
        self._open: set[Key] = set()
        self._ended: dict[str, dict[Key, None]] = {lane.mode: {} for lane in lanes}
        self._statuses: dict[str, bytes] = {}
        self._stopped = False
        self._started = asyncio.Event()
        self._change = asyncio.Event()

    def stop(self) -> None:
        self._stopped = True
        self._started.set()
        self._notify()

    async def run(self) -> None:
        """Poll the lanes until `stop`. Raises StoreError."""
        loop = asyncio.get_running_loop()
        status_at = loop.time()
        while not self._stopped:
            began = loop.time()
            await self._poll()
            if loop.time() >= status_at:
                status_at = loop.time() + STATUS_POLL_S
                await self.refresh_status()
            self._started.set()
            # Polling takes at most a third of the time, so that under load the workers get the processor.
            await asyncio.sleep(max(POLL_S, 2 * (loop.time() - began)))

    async def refresh_status(self) -> None:
        """Read the lanes' statuses now and send them to all clients."""
        for lane in self._lanes:
            self._statuses[lane.mode] = _event("status", asdict(await lane.status()))
        self._notify()

    async def stream(self, last_event_id: str | None) -> AsyncIterator[bytes]:
        """The events for one client: from the start, or after `last_event_id`."""
        await self._started.wait()
        yield b"retry: 1000\n\n"
        since = self._since(last_event_id)
        cursor, until = since or 0, self._number
        wanted = self._first() if since is None else None
        dropped = self._dropped
        sent: dict[str, bytes] = {}
        is_ready = False
        while not self._stopped:
            if self._dropped > max(cursor, dropped):
                return  # the client was too slow: an order that it has not received was dropped; it reconnects and starts over
            change = self._change
            chunk = self._after(cursor)[:AT_ONCE]
            for streamed in chunk:
                cursor = streamed.number
                if wanted is None or streamed.number > until or streamed.key in wanted:
                    yield b"id: %s\n%s" % (self._id(cursor), streamed.event)
            if cursor < until and chunk:
                continue
            for mode, status in list(self._statuses.items()):
                if sent.get(mode) is not status:
                    sent[mode] = status
                    yield b"id: %s\n%s" % (self._id(cursor), status)
            if not is_ready:
                is_ready = True
                yield b"id: %s\n%s" % (self._id(cursor), _event("ready", {"epoch": self.epoch}))
            if not chunk:
                await change.wait()

    def is_stuck(self, history: History) -> bool:
        return history.stuck(self._now(), STUCK_S)

    def _id(self, number: int) -> bytes:
        return f"{self.epoch}-{number}".encode()

    def _since(self, last_event_id: str | None) -> int | None:
        """The number after which a client resumes; None if it has to start over."""
        match = re.fullmatch(r"([0-9a-f]{1,16})-([0-9]{1,15})", last_event_id or "")
        if match is None or match[1] != self.epoch:
            return None
        number = int(match[2])
        return number if self._dropped <= number <= self._number else None

    def _first(self) -> set[Key]:
        """The orders that a new client gets: the open ones and the newest. Ids sort by age."""
        newest: set[Key] = set(self._open)
        for lane in self._lanes:
            newest.update(sorted((key for key in self._orders if key[0] == lane.mode), reverse=True)[:NEWEST])
        return newest

    def _after(self, number: int) -> list[StreamedOrder]:
        """The orders that changed after event `number`, oldest change first."""
        return list(takewhile(lambda streamed: streamed.number > number, reversed(self._orders.values())))[::-1]

    # --- polling ----------------------------------------------------------------------------------------------------------

    async def _poll(self) -> None:
        before = self._number
        for lane in self._lanes:
            for count, history in enumerate(await lane.changed(POLL_MAX), start=1):
                self._record((lane.mode, history.order_id), history)
                if count % AT_ONCE == 0:
                    await asyncio.sleep(0)
        for key in sorted(self._open):
            streamed = self._orders[key]
            if not streamed.stuck and self.is_stuck(streamed.history):
                self._record(key, streamed.history)
        if self._number > before:
            self._notify()

    def _record(self, key: Key, history: History) -> None:
        self._number += 1
        stuck = self.is_stuck(history)
        self._orders.pop(key, None)
        self._orders[key] = StreamedOrder(
            key, self._number, history, stuck, _event("order", {**history.as_dict(), "stuck": stuck})
        )
        ended = self._ended[key[0]]
        ended.pop(key, None)
        if not history.ended:
            self._open.add(key)
            return
        self._open.discard(key)
        ended[key] = None
        if len(ended) > KEPT_MAX:
            oldest = next(iter(ended))
            del ended[oldest]
            self._dropped = max(self._dropped, self._orders.pop(oldest).number)

    def _notify(self) -> None:
        self._change.set()
        self._change = asyncio.Event()


def _event(kind: str, value: object) -> bytes:
    """One event without its id. The data is JSON without line breaks."""
    return f"event: {kind}\ndata: {json.dumps(value, separators=(',', ':'))}\n\n".encode()
