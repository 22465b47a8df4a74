"""A chaos run judges a mode when it is at rest."""

from collections.abc import Callable
from pathlib import Path

import pytest

from api.broker_client import BrokerOrderClient
from bootstrap.memory_backend import MemoryBackend
from bootstrap.modes import Mode, roles, topology
from broker.topology import Address, Topology
from broker.transport import Outgoing, Wire
from lab.chaos.run import ChaosPlan, ChaosRun
from lab.chaos.traffic import Traffic
from lab.virtual_time import run_on_virtual_time
from services.order.messages import PlaceOrder
from tests.support.system import MODES

#: Queue of a message -> its address, and whether a worker still has to handle the message.
PLACES: dict[str, tuple[Callable[[Topology], Address], bool]] = {
    "its worker's queue": (lambda declared_topology: declared_topology.address_of(PlaceOrder), True),
    "a delay queue": (lambda declared_topology: declared_topology.retry_address("payment", 3), True),
    "the dead letters": (lambda declared_topology: declared_topology.dead_address("payment"), False),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("place", PLACES)
def test_a_run_waits_for_messages_that_are_not_handled(place: str, mode: Mode, tmp_path: Path) -> None:
    address, still_to_do = PLACES[place]

    async def at_rest() -> tuple[bool, bool]:
        backend = MemoryBackend(mode)
        declared_topology, client = topology(mode), backend.transport("probe")
        await client.open()
        await client.declare(declared_topology)
        chaos = ChaosRun(ChaosPlan(mode, seconds=1.0, seed=1, rate=1.0), tmp_path, spawn=pytest.fail)  # type: ignore[arg-type]
        chaos._probe_transport = client
        chaos._stores = {name: backend.store(name) for name in roles(mode)}
        traffic = Traffic(BrokerOrderClient(client, declared_topology, backend.environment), client, seed=1, rate=1.0)
        before = await chaos._is_at_rest(traffic)
        await client.publish([Outgoing(address(declared_topology), Wire(b"", message_id="1"))])
        return before, await chaos._is_at_rest(traffic)

    assert run_on_virtual_time(at_rest()) == (True, not still_to_do)
