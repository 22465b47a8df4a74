"""What was heard, for those who follow it: from any event that is still kept, across reconnects and restarts of the door.

Followers ask again and again; a look at the store is taken at most every fifth of a second and serves them all.
"""

import asyncio
from collections.abc import AsyncIterator, Callable

from api.documents import Feed, Heard, KnownOrder, Page, oldest_kept, page_of
from api.handlers import FEED
from api.orders import Desk
from broker.backoff import pause
from store.protocol import StoreError

#: Seconds between two looks. A look, because another replica of the door may be the one that hears.
LOOK_S = 0.2
#: Seconds of silence after which a stream says that it is still there.
SILENCE_S = 15.0
#: Seconds that a stream lasts at most; whoever wants more comes again and goes on where it ended.
STREAM_S = 600.0


class Forgotten(Exception):  # noqa: N818 - it names what happened
    """Some event after this one is no longer kept."""


class NeverHeard(Exception):  # noqa: N818 - it names what happened
    """No event has this number yet."""


class Following:
    """Everybody who follows. `stop` ends all streams, for a shutdown in time."""

    def __init__(self, desk: Desk, *, stream_s: float = STREAM_S) -> None:
        self._desk = desk
        self._stream_s = stream_s
        self._stopped = asyncio.Event()
        self._looking = asyncio.Lock()
        self._looked_at = float("-inf")
        self._number = 0
        self._pages: dict[str, Page] = {}

    def stop(self) -> None:
        self._stopped.set()

    async def all_events(self, last: int | None) -> AsyncIterator[bytes]:
        """A stream of every event after number `last`, or from now on. Raises Forgotten, NeverHeard, StoreError, at once."""
        await self._look()
        last = self._number if last is None else last
        await self._after(last)
        return self._stream([], last, lambda _: True)

    async def events_of(self, order_id: str, last: int | None) -> AsyncIterator[bytes] | None:
        """A stream of the events of one order after number `last`, or from its first; None if there is no such order. Raises as
        `all_events` does."""
        found = await self._desk.load([KnownOrder.key_of(order_id), FEED.key])
        if KnownOrder.key_of(order_id) not in found:
            return None
        order = KnownOrder.from_body(found[KnownOrder.key_of(order_id)].body)
        number = Feed.from_body(found[FEED.key].body).number if FEED.key in found else 0
        if last is not None and last > number:
            raise NeverHeard
        if last is not None and last < order.forgotten:
            raise Forgotten
        missed = [event for event in order.events if event.number > (last or 0)]
        return self._stream(missed, number, lambda event: event.order_id == order_id)

    async def _stream(self, missed: list[Heard], last: int, wanted: Callable[[Heard], bool]) -> AsyncIterator[bytes]:
        """`missed`, and then whatever is wanted among the events after number `last`."""
        loop = asyncio.get_running_loop()
        ends_at, said_at = loop.time() + self._stream_s, loop.time()
        yield b"retry: 1000\n\n"
        news = missed
        while not self._stopped.is_set() and loop.time() < ends_at:
            if shown := b"".join(_shown(event) for event in news if wanted(event)):
                yield shown
                said_at = loop.time()
            elif loop.time() - said_at > SILENCE_S:
                yield b": nothing new\n\n"
                said_at = loop.time()
            try:
                news = await self._after(last)
            except (Forgotten, NeverHeard, StoreError):
                return  # whoever comes again is told why
            if news:
                last = news[-1].number
            else:
                await pause(min(LOOK_S, ends_at - loop.time()), self._stopped)

    async def _after(self, last: int) -> list[Heard]:
        """The events after number `last`, as many as stand on its page."""
        if asyncio.get_running_loop().time() - self._looked_at >= LOOK_S or last > self._number:
            await self._look()
        if last > self._number:
            raise NeverHeard
        if last + 1 < oldest_kept(self._number):
            raise Forgotten
        if last == self._number:
            return []
        wanted = page_of(last + 1)
        page = await self._page(wanted.page_id)
        if page is None or page.first != wanted.first:
            raise Forgotten
        # The page may be newer than the look: what came since is for the next one.
        return [event for event in page.events if last < event.number <= self._number]

    async def _look(self) -> None:
        async with self._looking:
            found = await self._desk.load([FEED.key])
            self._number = Feed.from_body(found[FEED.key].body).number if found else 0
            self._pages.clear()
            self._looked_at = asyncio.get_running_loop().time()

    async def _page(self, page_id: str) -> Page | None:
        async with self._looking:
            if page_id not in self._pages:
                found = await self._desk.load([Page.key_of(page_id)])
                if not found:
                    return None
                self._pages[page_id] = Page.from_body(found[Page.key_of(page_id)].body)
            return self._pages[page_id]


def _shown(event: Heard) -> bytes:
    """The event as a server-sent one. Its text is JSON, so it has no line break."""
    return f"id: {event.number}\nevent: {event.type}\ndata: {event.model_dump_json()}\n\n".encode()
