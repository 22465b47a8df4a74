"""Context managers that open and close one mode's databases and a client of its broker, for commands and tools."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from bootstrap.backend import Backend
from bootstrap.modes import Mode, roles
from broker.transport import Transport
from store.protocol import Store


@dataclass(frozen=True, slots=True)
class OpenStores:
    """The open stores of one mode, by worker name."""

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
    """Open a client of a mode's broker. Use a client of its own for each queue that is consumed. Raises TransportError."""
    transport = backend.transport(name)
    await transport.open()
    try:
        yield transport
    finally:
        await transport.close()
