"""Wrappers of a worker's transport and store that count calls and crash the worker at a chosen one.

A crash is not a cancellation: after it, no call of the worker (in its `finally` blocks, for example) has any effect, and its
connection is lost. Earlier effects in the database remain.
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

#: Calls that tests and tools make, not the worker: never fenced.
NOT_FENCED = frozenset({"find", "put", "close"})

#: Calls repeated by an idle worker: only the first is recorded and can crash it.
POLLS = frozenset({"due", "pending_outbox"})


class When(StrEnum):
    """Before the call takes effect, or after it."""

    BEFORE = "before"
    AFTER = "after"


@dataclass
class Fence:
    """`falls` is called at every call with its number (from 1), its name and the moment; True crashes the worker there."""

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
    """Wraps a transport or store: every call passes the fence, before and after."""

    def __init__(self, port: Any, fence: Fence) -> None:
        self._port = port
        self._fence = fence

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._port, name)
        if name in NOT_FENCED:
            return call

        async def fenced(*args: Any, **kwargs: Any) -> Any:
            if name == "pending_outbox" and args[0] == math.inf:  # a test checks whether all is quiet
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
    """Return a condition that crashes the worker at the first call of this name."""
    return lambda _, called, moment: (called, moment) == (name, when)


class FailingStore:
    """A store whose transactions fail, one for each entry of `fails`; later ones succeed.

    An entry is called with (store, work), and returns or raises what `transact` does."""

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
