"""The traffic places orders at its rate, sends again until the broker confirms, and records what was confirmed."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from api.broker_client import BrokerOrderClient
from bootstrap.modes import Mode, topology
from broker.environment import Environment
from broker.transport import Outgoing, Receipt
from lab.chaos.traffic import Traffic
from services.order.messages import PlaceOrder, WithdrawOrder


class Broker:
    """A fake transport. While `down`, every publish is in doubt."""

    def __init__(self) -> None:
        self.down = False
        self.published: list[Outgoing] = []

    async def publish(self, outgoing: Sequence[Outgoing]) -> list[Receipt]:
        self.published += outgoing
        return [Receipt.UNKNOWN if self.down else Receipt.CONFIRMED] * len(outgoing)

    def ids(self, kind: type[Any]) -> list[str]:
        return [str(item.wire.correlation_id) for item in self.published if item.wire.type == kind.type_name]


def traffic_of(broker: Broker, *, rate: float = 200.0, seed: int = 1) -> Traffic:
    order_client = BrokerOrderClient(broker, topology(Mode.ORCHESTRATOR), Environment())  # type: ignore[arg-type]
    return Traffic(order_client, broker, seed, rate)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def short_intervals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lab.chaos.traffic.WITHDRAWN_WITHIN_S", 0.05)
    monkeypatch.setattr("lab.chaos.traffic.TICK_S", 0.005)


async def test_orders_are_placed_at_the_rate_and_some_are_withdrawn() -> None:
    broker = Broker()
    traffic = traffic_of(broker)
    await traffic.run(0.5)
    await traffic.send_remaining()
    assert len(traffic.placed) == 100
    assert traffic.accepted == traffic.placed == set(broker.ids(PlaceOrder))
    withdrawn = broker.ids(WithdrawOrder)
    assert 0 < len(withdrawn) == traffic.withdrawals < len(traffic.placed) / 2
    assert set(withdrawn) <= traffic.placed


async def test_an_order_in_doubt_is_sent_again_as_the_same_message() -> None:
    broker = Broker()
    broker.down = True
    traffic = traffic_of(broker)
    await traffic.run(0.1)
    assert traffic.placed
    assert not traffic.accepted
    broker.down = False
    await traffic.send_remaining()
    assert traffic.accepted == traffic.placed
    assert traffic.unconfirmed == 0
    places = [item for item in broker.published if item.wire.type == PlaceOrder.type_name]
    assert len(places) > len(traffic.placed)
    assert len({item.wire.message_id for item in places}) == len(traffic.placed)


async def test_sending_the_rest_waits_while_the_broker_is_down() -> None:
    broker = Broker()
    broker.down = True
    traffic = traffic_of(broker)
    await traffic.run(0.05)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(traffic.send_remaining(), 0.1)


async def test_the_seed_determines_lines_and_injected_faults() -> None:
    def orders_of(broker: Broker) -> list[tuple[bytes, Any]]:
        places = [item.wire for item in broker.published if item.wire.type == PlaceOrder.type_name][:50]
        return [(wire.body.partition(b'"details"')[2], wire.headers.get("injected")) for wire in places]

    brokers = [Broker() for _ in range(3)]
    for broker, seed in zip(brokers, (1, 1, 2), strict=True):
        await traffic_of(broker, seed=seed, rate=2000.0).run(0.05)
    # A loaded machine places fewer orders in that time, so only as many are compared as all three have.
    shared = min(len(orders_of(broker)) for broker in brokers)
    first, again, other = (orders_of(broker)[:shared] for broker in brokers)
    assert shared > 0
    assert first == again != other
    assert any(injected for broker in brokers for _, injected in orders_of(broker))
