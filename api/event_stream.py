"""Server-sent events: streams of recorded events, from any event that is still kept, across reconnects and restarts.

Streams poll the store, not this process, because another replica of the API may be the one that consumes. One query every
REFRESH_S at most serves all streams.
"""

import asyncio
from collections.abc import AsyncIterator, Callable

from api.documents import ApiOrder, EventCounter, EventPage, RecordedEvent, oldest_kept, page_of
from api.handlers import EVENT_COUNTER
from api.orders import Orders
from broker.backoff import pause
from store.protocol import StoreError

#: Seconds between two queries for new events.
REFRESH_S = 0.2
#: Seconds without an event after which a stream sends a comment to keep the connection open.
KEEP_ALIVE_S = 15.0
#: Seconds that a stream lasts at most. The client reconnects and continues after its last event.
STREAM_MAX_S = 600.0


class EventExpired(Exception):  # noqa: N818 - it names what happened
    """An event after this one is no longer kept."""


class UnknownEvent(Exception):  # noqa: N818 - it names what happened
    """No event has this number yet."""


class EventStreams:
    """The streams of all clients. `stop` ends them all, which a shutdown waits for."""

    def __init__(self, orders: Orders, *, stream_s: float = STREAM_MAX_S) -> None:
        self._orders = orders
        self._stream_s = stream_s
        self._stopped = asyncio.Event()
        self._refreshing = asyncio.Lock()
        self._refreshed_at = float("-inf")
        self._number = 0
        self._pages: dict[str, EventPage] = {}

    def stop(self) -> None:
        self._stopped.set()

    async def all_events(self, last: int | None) -> AsyncIterator[bytes]:
        """A stream of every event after number `last`, or from now on.

        Raises EventExpired, UnknownEvent or StoreError before the stream begins."""
        await self._refresh()
        last = self._number if last is None else last
        await self._after(last)
        return self._stream([], last, lambda _: True)

    async def events_of(self, order_id: str, last: int | None) -> AsyncIterator[bytes] | None:
        """A stream of the events of one order after number `last`, or from its first; None if the order is unknown.

        Raises as `all_events` does."""
        found = await self._orders.load([ApiOrder.key_of(order_id), EVENT_COUNTER.key])
        if ApiOrder.key_of(order_id) not in found:
            return None
        order = ApiOrder.from_body(found[ApiOrder.key_of(order_id)].body)
        number = EventCounter.from_body(found[EVENT_COUNTER.key].body).number if EVENT_COUNTER.key in found else 0
        if last is not None and last > number:
            raise UnknownEvent
        if last is not None and last < order.forgotten:
            raise EventExpired
        missed = [event for event in order.events if event.number > (last or 0)]
        return self._stream(missed, number, lambda event: event.order_id == order_id)

    async def _stream(
        self, missed: list[RecordedEvent], last: int, wanted: Callable[[RecordedEvent], bool]
    ) -> AsyncIterator[bytes]:
        """`missed`, and then those events after number `last` that are `wanted`."""
        loop = asyncio.get_running_loop()
        ends_at, sent_at = loop.time() + self._stream_s, loop.time()
        yield b"retry: 1000\n\n"
        events = missed
        while not self._stopped.is_set() and loop.time() < ends_at:
            if chunk := b"".join(_server_sent_event(event) for event in events if wanted(event)):
                yield chunk
                sent_at = loop.time()
            elif loop.time() - sent_at > KEEP_ALIVE_S:
                yield b": keep-alive\n\n"
                sent_at = loop.time()
            try:
                events = await self._after(last)
            except (EventExpired, UnknownEvent, StoreError):
                return  # the client reconnects and gets the error as a response
            if events:
                last = events[-1].number
            else:
                await pause(min(REFRESH_S, ends_at - loop.time()), self._stopped)

    async def _after(self, last: int) -> list[RecordedEvent]:
        """The events after number `last`, up to the end of their page."""
        if asyncio.get_running_loop().time() - self._refreshed_at >= REFRESH_S or last > self._number:
            await self._refresh()
        if last > self._number:
            raise UnknownEvent
        if last + 1 < oldest_kept(self._number):
            raise EventExpired
        if last == self._number:
            return []
        wanted = page_of(last + 1)
        page = await self._page(wanted.page_id)
        if page is None or page.first != wanted.first:
            raise EventExpired
        # The page may be newer than `_number`: later events are left to the next call.
        return [event for event in page.events if last < event.number <= self._number]

    async def _refresh(self) -> None:
        async with self._refreshing:
            found = await self._orders.load([EVENT_COUNTER.key])
            self._number = EventCounter.from_body(found[EVENT_COUNTER.key].body).number if found else 0
            self._pages.clear()
            self._refreshed_at = asyncio.get_running_loop().time()

    async def _page(self, page_id: str) -> EventPage | None:
        async with self._refreshing:
            if page_id not in self._pages:
                found = await self._orders.load([EventPage.key_of(page_id)])
                if not found:
                    return None
                self._pages[page_id] = EventPage.from_body(found[EventPage.key_of(page_id)].body)
            return self._pages[page_id]


def _server_sent_event(event: RecordedEvent) -> bytes:
    """The event in the format of server-sent events. Its data is JSON, so it has no line break."""
    return f"id: {event.number}\nevent: {event.type}\ndata: {event.model_dump_json()}\n\n".encode()
