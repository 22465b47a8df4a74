"""One mode's databases and its broker for people and instruments, opened and closed in good order."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from bootstrap.backend import Backend
from bootstrap.modes import Mode, roles
from broker.transport import Transport
from store.protocol import Store


@dataclass(frozen=True, slots=True)
class OpenStores:
    """The stores of one mode, by worker, open."""

    mode: Mode
    stores: Mapping[str, Store]


@asynccontextmanager
async def open_stores(mode: Mode, backend: Backend) -> AsyncIterator[OpenStores]:
    """Open every database of a mode. Raises StoreUnavailable, UnsafeStore."""
    stores: dict[str, Store] = {name: backend.store(name) for name in roles(mode)}
    try:
        for store in stores.values():
            await store.open([])
        yield OpenStores(mode, stores)
    finally:
        for store in stores.values():
            await store.close()


@asynccontextmanager
async def open_transport(backend: Backend, name: str) -> AsyncIterator[Transport]:
    """A client of a mode's broker; one that consumes is for that alone. Raises TransportError."""
    transport = backend.transport(name)
    await transport.open()
    try:
        yield transport
    finally:
        await transport.close()
