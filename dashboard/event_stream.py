"""What the page follows: whole histories whenever they change and how the lanes are, as server-sent events.

One look at the lanes serves everybody, and a client holds no more than a place in a list that all share: one that is
slow gets each order once, as it stands when it comes to it. Numbers go on within an epoch, the life of this process.
"""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import takewhile

from dashboard.lanes.lane import LaneView
from observer.history import History

#: Seconds between two looks at a lane, and between two looks at how it is.
POLL_S, STATUS_POLL_S = 0.2, 1.0
#: Histories of one lane in one look, told between two turns of the loop, and sent between two looks at what is new.
POLL_MAX, AT_ONCE = 100, 20
#: Orders of each lane that whoever comes anew is told of, besides the open ones; ended ones of each lane that are kept.
NEWEST, KEPT_MAX = 200, 1_000
#: Seconds without a message after which an open order is stuck: longer than any wait of the business here.
STUCK_S = 20.0

#: A lane's mode and an order's id.
Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class StreamedOrder:
    """An order as it was last told."""

    key: Key
    number: int
    history: History
    stuck: bool
    event: bytes


class HistoryStream:
    """Everybody who watches. `run` looks until `stop`, which ends all streams, for a shutdown in time."""

    def __init__(self, lanes: Sequence[LaneView], now: Callable[[], float]) -> None:
        self._lanes = lanes
        self._now = now
        self.epoch = f"{int(now() * 1000):x}"
        self._number = 0
        #: The highest number of an order that is no longer kept.
        self._forgotten = 0
        #: By the time of their last change.
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
        """Look at the lanes until `stop`. Raises StoreError."""
        loop = asyncio.get_running_loop()
        status_at = loop.time()
        while not self._stopped:
            began = loop.time()
            await self._poll()
            if loop.time() >= status_at:
                status_at = loop.time() + STATUS_POLL_S
                await self.refresh_status()
            self._started.set()
            # A busy run needs the processor more than whoever watches it.
            await asyncio.sleep(max(POLL_S, 2 * (loop.time() - began)))

    async def refresh_status(self) -> None:
        """How the lanes are now, for everybody; also when something was just done to one of them."""
        for lane in self._lanes:
            self._statuses[lane.mode] = _event("status", asdict(await lane.status()))
        self._notify()

    async def stream(self, last_event_id: str | None) -> AsyncIterator[bytes]:
        """The events for one client, from the beginning or after the one that it names."""
        await self._started.wait()
        yield b"retry: 1000\n\n"
        since = self._since(last_event_id)
        cursor, until = since or 0, self._number
        wanted = self._first() if since is None else None
        forgotten = self._forgotten
        sent: dict[str, bytes] = {}
        is_ready = False
        while not self._stopped:
            if self._forgotten > max(cursor, forgotten):
                return  # too slow: what it has not been told of is no longer kept, so it has to come again and begin anew
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
        """The number after which a client wants to go on; None if it has to begin anew."""
        match = re.fullmatch(r"([0-9a-f]{1,16})-([0-9]{1,15})", last_event_id or "")
        if match is None or match[1] != self.epoch:
            return None
        number = int(match[2])
        return number if self._forgotten <= number <= self._number else None

    def _first(self) -> set[Key]:
        """Whom a client that begins anew is told of: the open and the newest, which sort by their ids."""
        newest: set[Key] = set(self._open)
        for lane in self._lanes:
            newest.update(sorted((key for key in self._orders if key[0] == lane.mode), reverse=True)[:NEWEST])
        return newest

    def _after(self, number: int) -> list[StreamedOrder]:
        """What has changed since, in that order."""
        return list(takewhile(lambda streamed: streamed.number > number, reversed(self._orders.values())))[::-1]

    # --- looking ----------------------------------------------------------------------------------------------------------

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
            self._forgotten = max(self._forgotten, self._orders.pop(oldest).number)

    def _notify(self) -> None:
        self._change.set()
        self._change = asyncio.Event()


def _event(kind: str, value: object) -> bytes:
    """One event without its id. Its text is JSON in ASCII, so it has no line break."""
    return f"event: {kind}\ndata: {json.dumps(value, separators=(',', ':'))}\n\n".encode()
