"""When chaos takes a mode to have come to rest, and judges it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from api.broker_client import Door
from bootstrap.memory_backend import EmbeddedParts
from bootstrap.modes import Mode, roles, topology
from broker.topology import Address, Topology
from broker.transport import Outgoing, Wire
from lab.chaos.run import Chaos, Plan
from lab.chaos.traffic import Customers
from lab.virtual_time import run_virtually
from services.order.messages import PlaceOrder
from tests.support.system import MODES

#: Where a message sits -> whether somebody still has to handle it.
PLACES: dict[str, tuple[Callable[[Topology], Address], bool]] = {
    "its worker's queue": (lambda furniture: furniture.address_of(PlaceOrder), True),
    "a delay queue": (lambda furniture: furniture.retry_address("payment", 3), True),
    "the dead letters": (lambda furniture: furniture.dead_address("payment"), False),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("place", PLACES)
def test_chaos_waits_for_a_message_that_somebody_still_has_to_handle(place: str, mode: Mode, tmp_path: Path) -> None:
    address, still_to_do = PLACES[place]

    async def rests() -> tuple[bool, bool]:
        parts = EmbeddedParts(mode)
        furniture, client = topology(mode), parts.transport("instrument")
        await client.open()
        await client.declare(furniture)
        chaos = Chaos(Plan(mode, seconds=1.0, seed=1, rate=1.0), tmp_path, spawn=pytest.fail)  # type: ignore[arg-type]
        chaos._instrument = client
        chaos._stores = {name: parts.store(name) for name in roles(mode)}
        customers = Customers(Door(client, furniture, parts.sources), client, seed=1, rate=1.0)
        before = await chaos._at_rest(customers)
        await client.publish([Outgoing(address(furniture), Wire(b"", message_id="1"))])
        return before, await chaos._at_rest(customers)

    assert run_virtually(rests()) == (True, not still_to_do)
