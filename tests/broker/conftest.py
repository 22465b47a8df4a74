"""Fixtures of the transport contract: a broker, in memory or real, and a client of it."""

from collections.abc import AsyncIterator

import pytest

from broker.transport import Transport
from tests.support.broker.transports import World, memory_world, rabbit_world


@pytest.fixture(params=["memory", pytest.param("rabbit", marks=pytest.mark.real)])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    """A broker in memory, and a real one behind a proxy."""
    if request.param == "memory":
        async with memory_world() as made:
            yield made
    else:
        async with rabbit_world(request.getfixturevalue("rabbit_url")) as made:
            yield made


@pytest.fixture
async def client(world: World) -> Transport:
    """The client that declared the topology."""
    return world.clients[0]
