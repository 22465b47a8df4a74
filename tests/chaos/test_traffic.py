"""The customers place at their rate, insist until the broker has confirmed, and remember what it has."""

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
    """Stands where a transport does: `down` leaves everything in doubt."""

    def __init__(self) -> None:
        self.down = False
        self.published: list[Outgoing] = []

    async def publish(self, outgoing: Sequence[Outgoing]) -> list[Receipt]:
        self.published += outgoing
        return [Receipt.UNKNOWN if self.down else Receipt.CONFIRMED] * len(outgoing)

    def ids(self, kind: type[Any]) -> list[str]:
        return [str(item.wire.correlation_id) for item in self.published if item.wire.type == kind.type_name]


def customers_of(broker: Broker, *, rate: float = 200.0, seed: int = 1) -> Traffic:
    order_client = BrokerOrderClient(broker, topology(Mode.ORCHESTRATOR), Environment())  # type: ignore[arg-type]
    return Traffic(order_client, broker, seed, rate)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lab.chaos.traffic.WITHDRAWN_WITHIN_S", 0.05)
    monkeypatch.setattr("lab.chaos.traffic.TICK_S", 0.005)


async def test_orders_come_at_their_rate_and_some_are_taken_back() -> None:
    broker = Broker()
    traffic = customers_of(broker)
    await traffic.run(0.5)
    await traffic.send_remaining()
    assert len(traffic.placed) == 100
    assert traffic.accepted == traffic.placed == set(broker.ids(PlaceOrder))
    withdrawn = broker.ids(WithdrawOrder)
    assert 0 < len(withdrawn) == traffic.withdrawals < len(traffic.placed) / 2
    assert set(withdrawn) <= traffic.placed


async def test_an_order_in_doubt_is_sent_again_as_the_same_message_and_counts_once_it_is_confirmed() -> None:
    broker = Broker()
    broker.down = True
    traffic = customers_of(broker)
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


async def test_while_the_broker_is_away_finishing_does_not_end() -> None:
    broker = Broker()
    broker.down = True
    traffic = customers_of(broker)
    await traffic.run(0.05)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(traffic.send_remaining(), 0.1)


async def test_a_seed_decides_what_is_ordered_and_what_fails() -> None:
    def told(broker: Broker) -> list[tuple[bytes, Any]]:
        places = [item.wire for item in broker.published if item.wire.type == PlaceOrder.type_name][:50]
        return [(wire.body.partition(b'"details"')[2], wire.headers.get("injected")) for wire in places]

    brokers = [Broker() for _ in range(3)]
    for broker, seed in zip(brokers, (1, 1, 2), strict=True):
        await customers_of(broker, seed=seed, rate=2000.0).run(0.05)
    assert told(brokers[0]) == told(brokers[1]) != told(brokers[2])
    assert any(injected for _, injected in told(brokers[0]))
