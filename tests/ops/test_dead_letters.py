"""The dead letters of the HTTP door, which has a queue of its own beside those of its mode, are seen and moved like any other.

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


async def a_letter(system: System) -> Wire:
    """An event that the door has given up; there is a door from now on, which does not run."""
    declared_topology = api_topology(system.client.topology.prefix)
    await system.client.transport.declare(declared_topology)
    environment = system.backend.environment
    event = OrderPlaced(order_id=environment.new_id(), details=sample_order([Line(sku="book", quantity=1)]))
    wire = encode(event, message_id=environment.new_id(), now=environment.now(), app_id="tests", origin=Origin())
    wire = replace(wire, headers={**wire.headers, "dead_reason": "attempts_exhausted"})
    await system.client.transport.publish([Outgoing(declared_topology.dead_address(NAME), wire)])
    return wire


@pytest.mark.parametrize("mode", MODES)
def test_a_dead_letter_of_the_door_is_listed_and_sent_back_to_it(mode: Mode) -> None:
    async def play(system: System) -> None:
        wire = await a_letter(system)
        everywhere, names = with_api(system.client.topology), [*roles(mode), NAME]
        (letter,) = await dead_letters(system.client.transport, everywhere, names)
        assert (letter.worker, letter.id, letter.reason) == ("door", wire.message_id, "attempts_exhausted")
        transport = system.backend.transport("somebody")
        await transport.open()
        (back,) = await requeue(transport, everywhere, NAME, lambda _: True)
        assert back.id == wire.message_id

        async def is_back() -> bool:
            return await transport.depth(queue_of(everywhere.prefix, NAME)) == 1

        await system.wait_until(is_back, "the letter to be back in the door's queue")
        assert await dead_letters(transport, everywhere, names) == []
        await transport.close()

    in_memory(mode, play)


@pytest.mark.parametrize("mode", MODES)
def test_a_dead_letter_of_the_door_can_be_thrown_away(mode: Mode) -> None:
    async def play(system: System) -> None:
        wire = await a_letter(system)
        everywhere = with_api(system.client.topology)
        transport = system.backend.transport("somebody")
        await transport.open()
        (gone,) = await discard(transport, everywhere, NAME, lambda _: True)
        assert gone.id == wire.message_id
        assert await dead_letters(transport, everywhere, [NAME]) == []
        await transport.close()

    in_memory(mode, play)


@pytest.mark.parametrize("mode", MODES)
def test_a_mode_whose_door_was_never_opened_has_none_of_it(mode: Mode) -> None:
    async def play(system: System) -> None:
        everywhere = with_api(system.client.topology)
        assert await dead_letters(system.client.transport, everywhere, [NAME]) == []
        for act in requeue, discard:
            assert await act(system.client.transport, everywhere, NAME, lambda _: True) == []

    in_memory(mode, play)
