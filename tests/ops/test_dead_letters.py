"""The dead letters of the HTTP API, whose queue is not part of its mode's topology, are listed and moved like any others.

In memory; `saga dlq` itself is run in tests/cli/.
"""

from dataclasses import replace

import pytest

from api.messages import NAME
from api.orders import api_topology
from api.sample_orders import sample_order
from bootstrap.modes import Mode, roles
from broker.codec import Origin, encode
from broker.topology import queue_of
from broker.transport import Outgoing, Wire
from lab.system import System
from ops.dead_letters import dead_letters, discard, requeue, with_api
from services.order.messages import OrderPlaced
from services.vocabulary import Line
from tests.support.system import MODES, in_memory


async def dead_letter_of_api(system: System) -> Wire:
    """A dead-lettered event of the HTTP API, whose queues are declared and which does not run."""
    declared_topology = api_topology(system.client.topology.prefix)
    await system.client.transport.declare(declared_topology)
    environment = system.backend.environment
    event = OrderPlaced(order_id=environment.new_id(), details=sample_order([Line(sku="book", quantity=1)]))
    wire = encode(event, message_id=environment.new_id(), now=environment.now(), app_id="tests", origin=Origin())
    wire = replace(wire, headers={**wire.headers, "dead_reason": "attempts_exhausted"})
    await system.client.transport.publish([Outgoing(declared_topology.dead_address(NAME), wire)])
    return wire


@pytest.mark.parametrize("mode", MODES)
def test_a_dead_letter_of_the_api_is_listed_and_requeued(mode: Mode) -> None:
    async def play(system: System) -> None:
        wire = await dead_letter_of_api(system)
        declared_topology, names = with_api(system.client.topology), [*roles(mode), NAME]
        (letter,) = await dead_letters(system.client.transport, declared_topology, names)
        assert (letter.worker, letter.id, letter.reason) == ("api", wire.message_id, "attempts_exhausted")
        transport = system.backend.transport("tests")
        await transport.open()
        (back,) = await requeue(transport, declared_topology, NAME, lambda _: True)
        assert back.id == wire.message_id

        async def is_back() -> bool:
            return await transport.depth(queue_of(declared_topology.prefix, NAME)) == 1

        await system.wait_until(is_back, "the message to be back in the API's queue")
        assert await dead_letters(transport, declared_topology, names) == []
        await transport.close()

    in_memory(mode, play)


@pytest.mark.parametrize("mode", MODES)
def test_a_dead_letter_of_the_api_can_be_discarded(mode: Mode) -> None:
    async def play(system: System) -> None:
        wire = await dead_letter_of_api(system)
        declared_topology = with_api(system.client.topology)
        transport = system.backend.transport("tests")
        await transport.open()
        (gone,) = await discard(transport, declared_topology, NAME, lambda _: True)
        assert gone.id == wire.message_id
        assert await dead_letters(transport, declared_topology, [NAME]) == []
        await transport.close()

    in_memory(mode, play)


@pytest.mark.parametrize("mode", MODES)
def test_an_api_that_never_ran_has_no_dead_letters(mode: Mode) -> None:
    async def play(system: System) -> None:
        declared_topology = with_api(system.client.topology)
        assert await dead_letters(system.client.transport, declared_topology, [NAME]) == []
        for act in requeue, discard:
            assert await act(system.client.transport, declared_topology, NAME, lambda _: True) == []

    in_memory(mode, play)
