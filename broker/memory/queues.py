"""Exchanges, queues, consumers, delay queues and subscriptions of the in-memory broker.

Queues behave like RabbitMQ's quorum queues as far as the transport protocol can observe: first in, first out; prefetch; returned
messages go to the front and are counted; beyond the delivery limit they are dead-lettered. Deliveries use `loop.call_soon` and
delays `loop.call_later`, so everything runs on virtual time too.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Protocol

from broker.transport import Delivery, Sink, Wire

#: Seconds until an expired message that could not be routed is tried again.
UNROUTABLE_RETRY_S = 1.0

#: Takes the number of messages waiting in a queue; returns the index of the next one to deliver, 0 for the oldest.
Choose = Callable[[int], int]


#: Exchange and routing key that a message was routed by.
Route = tuple[str, str]


@dataclass(slots=True)
class QueuedMessage:
    """A message in a queue, its route, and how often it was returned unsettled."""

    wire: Wire
    route: Route
    returns: int = 0


class Target(Protocol):
    """A destination that an exchange routes to."""

    def accept(self, wire: Wire, route: Route, delay_s: float | None) -> None: ...


class Consumer:
    """One consumer of a queue, with at most `prefetch` unsettled deliveries. Their `channel` is this object."""

    def __init__(self, queue: "Queue", prefetch: int, sink: Sink) -> None:
        self.queue = queue
        self.alive = True
        self._prefetch = prefetch
        self._sink = sink
        self._last_tag = 0
        self._unsettled: deque[tuple[int, QueuedMessage]] = deque()

    @property
    def has_capacity(self) -> bool:
        return len(self._unsettled) < self._prefetch

    @property
    def unsettled(self) -> int:
        """The number of unsettled deliveries."""
        return len(self._unsettled)

    def deliver(self, queued: QueuedMessage) -> None:
        self._last_tag += 1
        self._unsettled.append((self._last_tag, queued))
        self._sink(Delivery(queued.wire, queued.returns > 0, self._last_tag, self, *queued.route))

    def ack(self, tag: int) -> None:
        """Settle all deliveries up to `tag`."""
        while self._unsettled and self._unsettled[0][0] <= tag:
            self._unsettled.popleft()
        self.queue.schedule()

    def reject(self, tags: set[int]) -> None:
        """Return some deliveries to the queue."""
        back = [queued for tag, queued in self._unsettled if tag in tags]
        self._unsettled = deque(entry for entry in self._unsettled if entry[0] not in tags)
        self.queue.put_back(back)

    def drop(self) -> None:
        """Return all unsettled deliveries, because the connection is lost."""
        self.alive = False
        self.queue.leave(self)
        back = [queued for _, queued in self._unsettled]
        self._unsettled.clear()
        self.queue.put_back(back)


class Queue:
    """A work queue or a dead-letter queue (`dead` is None).

    `limit`: returns after which a message is dead-lettered to `dead`, with the route `dead_letter_route`. Beyond `max_length`
    waiting messages the oldest are dead-lettered too."""

    def __init__(
        self,
        *,
        limit: int,
        dead: "Queue | None",
        dead_letter_route: Route = ("", ""),
        single_active: bool,
        choose: Choose | None,
        max_length: int | None = None,
    ) -> None:
        self.limit = limit
        self.single_active = single_active
        self.waiting: deque[QueuedMessage] = deque()
        self.consumers: list[Consumer] = []
        self._dead = dead
        self._dead_letter_route = dead_letter_route
        self._max_length = max_length
        self._choose = choose
        self._scheduled = False

    def __len__(self) -> int:
        return len(self.waiting)

    @property
    def is_dead_letters(self) -> bool:
        return self._dead is None

    def accept(self, wire: Wire, route: Route, _delay_s: float | None = None) -> None:
        self.waiting.append(QueuedMessage(wire, route))
        self._drop_overflow()
        self.schedule()

    def put_back(self, returned: list[QueuedMessage]) -> None:
        """Put unsettled messages back in front, the oldest first. Those beyond the delivery limit are dead-lettered."""
        for queued in reversed(returned):
            queued.returns += 1
            if self._dead is None or queued.returns <= self.limit:
                self.waiting.appendleft(queued)
            else:
                self._dead_letter(queued, "delivery_limit")
        self._drop_overflow()
        self.schedule()

    def _drop_overflow(self) -> None:
        while self._max_length is not None and len(self.waiting) > self._max_length:
            self._dead_letter(self.waiting.popleft(), "maxlen")

    def _dead_letter(self, queued: QueuedMessage, reason: str) -> None:
        if self._dead is not None:
            exchange, routing_key = queued.route
            death = {"reason": reason, "exchange": exchange, "routing-keys": [routing_key]}
            headers = {**queued.wire.headers, "x-first-death-reason": reason, "x-death": [death]}
            self._dead.accept(replace(queued.wire, headers=headers), self._dead_letter_route)

    def join(self, consumer: Consumer) -> None:
        self.consumers.append(consumer)
        self.schedule()

    def leave(self, consumer: Consumer) -> None:
        if consumer in self.consumers:
            self.consumers.remove(consumer)
            self.schedule()

    def clear(self) -> None:
        self.waiting.clear()

    def schedule(self) -> None:
        """Schedule the delivery of waiting messages."""
        if self.waiting and self.consumers and not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._deliver)

    def _deliver(self) -> None:
        self._scheduled = False
        while self.waiting and (consumer := self._next_consumer()):
            consumer.deliver(self._next_message())

    def _next_consumer(self) -> Consumer | None:
        """Return a consumer with capacity, in turns; a single active consumer stays first until it leaves."""
        for consumer in self.consumers[:1] if self.single_active else self.consumers:
            if consumer.has_capacity:
                if not self.single_active:
                    self.consumers.remove(consumer)
                    self.consumers.append(consumer)
                return consumer
        return None

    def _next_message(self) -> QueuedMessage:
        index = self._choose(len(self.waiting)) if self._choose else 0
        if index == 0:
            return self.waiting.popleft()
        queued = self.waiting[index]
        del self.waiting[index]
        return queued


class DelayQueue:
    """A queue without consumers: messages expire after `level_s`, or after their own shorter delay.

    An expired message is published to `next_exchange` (its name and its routing function) with its own routing key."""

    def __init__(self, level_s: float, next_exchange: "tuple[str, Callable[[str], Iterable[Target]]]") -> None:
        self._level_s = level_s
        self._exchange, self._route = next_exchange
        self._timers: dict[int, tuple[asyncio.TimerHandle, Wire]] = {}
        self._last = 0

    def __len__(self) -> int:
        return len(self._timers)

    def accept(self, wire: Wire, route: Route, delay_s: float | None) -> None:
        self._last += 1
        wait_s = self._level_s if delay_s is None else min(delay_s, self._level_s)
        timer = asyncio.get_running_loop().call_later(wait_s, self._expire, self._last, route[1])
        self._timers[self._last] = (timer, wire)

    def wires(self) -> list[Wire]:
        return [wire for _, wire in self._timers.values()]

    def clear(self) -> None:
        for timer, _ in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _expire(self, number: int, routing_key: str) -> None:
        targets = list(self._route(routing_key))
        if not targets:  # kept until it can be routed, as at-least-once dead-lettering does
            timer = asyncio.get_running_loop().call_later(UNROUTABLE_RETRY_S, self._expire, number, routing_key)
            self._timers[number] = (timer, self._timers[number][1])
            return
        _, wire = self._timers.pop(number)
        for target in targets:
            target.accept(wire, (self._exchange, routing_key), None)


@dataclass(slots=True, eq=False)
class Tap:
    """A subscription: passes messages to a sink and stores none."""

    sink: Callable[[Wire], None]
    alive: bool = True

    def accept(self, wire: Wire, _route: Route, _delay_s: float | None) -> None:
        asyncio.get_running_loop().call_soon(self._deliver, wire)

    def _deliver(self, wire: Wire) -> None:
        if self.alive:
            self.sink(wire)


@dataclass(slots=True)
class Exchange:
    """A topic exchange."""

    bindings: list[tuple[str, Target]] = field(default_factory=list)
    _routes: dict[str, tuple[Target, ...]] = field(default_factory=dict)

    def bind(self, pattern: str, target: Target) -> None:
        if (pattern, target) not in self.bindings:
            self.bindings.append((pattern, target))
            self._routes.clear()

    def unbind(self, target: Target) -> None:
        self.bindings = [binding for binding in self.bindings if binding[1] is not target]
        self._routes.clear()

    def route(self, routing_key: str) -> tuple[Target, ...]:
        """Return each target once, however many of its bindings match."""
        targets = self._routes.get(routing_key)
        if targets is None:
            found = {id(target): target for pattern, target in self.bindings if matches_topic(pattern, routing_key)}
            targets = self._routes[routing_key] = tuple(found.values())
        return targets


@cache
def matches_topic(pattern: str, routing_key: str) -> bool:
    """Match a routing key by AMQP's topic rule: words are separated by dots, `*` is one word, `#` any number, even zero."""
    return _match(tuple(pattern.split(".")), tuple(routing_key.split(".")))


def _match(pattern: tuple[str, ...], words: tuple[str, ...]) -> bool:
    if not pattern:
        return not words
    if pattern[0] == "#":
        return any(_match(pattern[1:], words[skipped:]) for skipped in range(len(words) + 1))
    return bool(words) and pattern[0] in ("*", words[0]) and _match(pattern[1:], words[1:])
