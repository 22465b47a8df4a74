"""The connection that comes back: opened once, and every way to lose it said in our words."""

import pytest
from yarl import URL

from broker.rabbitmq.connection import broker_request
from broker.rabbitmq.transport import RabbitTransport
from broker.transport import TransportUnavailable
from tests.support.network.tcp_proxy import Proxy
from tests.support.wait import until


@pytest.mark.real
async def test_opening_what_is_open_makes_no_second_pair_of_connections_now_or_after_an_outage(rabbit_url: str) -> None:
    """A worker's furniture is declared on the transport that its loop then opens. Found by `saga chaos`."""
    target = URL(rabbit_url)
    async with Proxy(target.host or "", target.port or 5672) as proxy:
        transport = RabbitTransport(str(target.with_host("127.0.0.1").with_port(proxy.port)), "opened twice")
        await transport.open()
        await transport.open()
        assert proxy.accepted == 2
        proxy.reset()
        await until(lambda: proxy.accepted >= 4, "both connections to come back")
        await transport.close()
        assert proxy.accepted == 4


async def test_a_connection_that_ends_before_its_first_frame_is_a_broker_that_is_away() -> None:
    """The library raises StopAsyncIteration then, which nobody expects. Found by `saga chaos`."""
    with pytest.raises(TransportUnavailable, match="connecting: the connection was lost"):
        async with broker_request("connecting"):
            raise StopAsyncIteration
