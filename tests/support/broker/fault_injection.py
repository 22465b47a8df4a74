"""A worker's ports with a fence around them: they count what passes, and crash the worker at a chosen call.

A crash is not a cancellation: once the fence is down nothing that the worker still does (in its `finally`
blocks, say) has any effect, and its connection is gone. What the database did before stays done.
"""

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from broker.memory.transport import MemoryTransport
from broker.transport import Transport
from lab.system import WorkerCrashed
from store.protocol import Store

#: What people and instruments ask, not the worker: never fenced.
NOT_FENCED = frozenset({"find", "put", "close"})

#: Asked again and again while nothing happens: counted the first time only.
POLLS = frozenset({"due", "pending_outbox"})


class When(StrEnum):
    """Before the call has had its effect, or after it."""

    BEFORE = "before"
    AFTER = "after"


@dataclass
class Fence:
    """`falls` is asked at every call, with its number (from 1), its name and the moment: True crashes the worker there."""

    falls: Callable[[int, str, When], bool] = lambda *_: False
    calls: Counter[str] = field(default_factory=Counter)
    names: list[str] = field(default_factory=list)
    is_down: bool = False
    crashed: int = 0
    transport: MemoryTransport | None = None

    def pass_through(self, name: str, when: When) -> None:
        if self.is_down:
            raise WorkerCrashed
        if when is When.BEFORE:
            self.calls[name] += 1
        if name in POLLS and self.calls[name] > 1:
            return
        if when is When.BEFORE:
            self.names.append(name)
        if self.falls(len(self.names), name, when):
            self.is_down = True
            self.crashed += 1
            if self.transport:
                self.transport.crash()
            raise WorkerCrashed


class _Fenced:
    """Any port: every call of it passes the fence, before and after."""

    def __init__(self, port: Any, fence: Fence) -> None:
        self._port = port
        self._fence = fence

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._port, name)
        if name in NOT_FENCED:
            return call

        async def fenced(*args: Any, **kwargs: Any) -> Any:
            if name == "pending_outbox" and args[0] == math.inf:  # somebody looks whether all is at rest
                return await call(*args, **kwargs)
            self._fence.pass_through(name, When.BEFORE)
            result = await call(*args, **kwargs)
            self._fence.pass_through(name, When.AFTER)
            return result

        return fenced


def fenced_transport(transport: MemoryTransport, fence: Fence) -> Transport:
    fence.transport = transport
    return _Fenced(transport, fence)  # type: ignore[return-value]


def fenced_store(store: Store, fence: Fence) -> Store:
    return _Fenced(store, fence)  # type: ignore[return-value]


def crash_once(name: str, when: When) -> Callable[[int, str, When], bool]:
    """Crash at the first call of this name."""
    return lambda _, called, moment: (called, moment) == (name, when)


class FailingStore:
    """A store whose transactions fail as they are told, one entry of `fails` for each; then it works.

    An entry is called with (the store, the work) and gives or raises what `transact` shall."""

    def __init__(self, store: Store, fails: list[Callable[..., Any]]) -> None:
        self._store = store
        self.fails = fails
        self.transactions = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def transact(self, work: Any) -> Any:
        self.transactions += 1
        if self.fails:
            return await self.fails.pop(0)(self._store, work)
        return await self._store.transact(work)
