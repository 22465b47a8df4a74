"""The reconnecting connection: opening it twice, and the translation of its errors."""

import pytest
from yarl import URL

from broker.rabbitmq.connection import broker_request
from broker.rabbitmq.transport import RabbitTransport
from broker.transport import TransportUnavailable
from tests.support.network.tcp_proxy import Proxy
from tests.support.wait import until


@pytest.mark.real
async def test_opening_twice_makes_one_pair_of_connections(rabbit_url: str) -> None:
    """A worker declares its topology on the transport that its loop then opens. Found by `saga chaos`."""
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


async def test_connection_lost_before_its_first_frame_is_unavailable() -> None:
    """The library then raises StopAsyncIteration. Found by `saga chaos`."""
    with pytest.raises(TransportUnavailable, match="connecting: the connection was lost"):
        async with broker_request("connecting"):
            raise StopAsyncIteration
