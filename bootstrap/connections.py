"""One mode's databases and its broker for people and instruments, opened and closed in good order."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from bootstrap.backend import Parts
from bootstrap.modes import Mode, roles
from broker.transport import Transport
from store.protocol import Store


@dataclass(frozen=True, slots=True)
class Seen:
    """The stores of one mode, by worker, open."""

    mode: Mode
    stores: Mapping[str, Store]


@asynccontextmanager
async def looking(mode: Mode, parts: Parts) -> AsyncIterator[Seen]:
    """Open every database of a mode. Raises StoreUnavailable, UnsafeStore."""
    stores: dict[str, Store] = {name: parts.store(name) for name in roles(mode)}
    try:
        for store in stores.values():
            await store.open([])
        yield Seen(mode, stores)
    finally:
        for store in stores.values():
            await store.close()


@asynccontextmanager
async def talking(parts: Parts, name: str) -> AsyncIterator[Transport]:
    """A client of a mode's broker; one that consumes is for that alone. Raises TransportError."""
    transport = parts.transport(name)
    await transport.open()
    try:
        yield transport
    finally:
        await transport.close()
