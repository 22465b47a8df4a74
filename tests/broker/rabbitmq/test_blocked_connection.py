"""A worker whose publishing connection the broker blocks (memory or disk alarm) recovers without losing or duplicating an order.

On real servers; a proxy in front of one worker simulates the alarm (tests/support/broker/alarm.py).
"""

from collections.abc import Sequence
from typing import Any

import pytest
from yarl import URL

from bootstrap.modes import Mode
from bootstrap.server_backend import ServerBackend
from broker.rabbitmq.transport import RabbitTransport
from broker.transport import Outgoing, Receipt, Transport
from lab.journeys.run import JourneyRun
from lab.system import System, set_up_stock
from tests.support.broker.alarm import block, unblock
from tests.support.network.tcp_proxy import Proxy
from tests.support.system import LONG_TIMEOUTS, Servers, all_dead_letters, finish, on_servers

pytestmark = pytest.mark.real

ORDERS = 40
BLOCKED = "inventory"
#: Number of the publishing connection at the proxy, which is the first.
PUBLISHING = 0


class CountingTransport(RabbitTransport):
    """A transport that records the receipt of each publish."""

    def __init__(self, url: str, name: str) -> None:
        super().__init__(url, name, confirm_timeout_s=0.3, reconnect_timeout_s=0.2)
        self.receipts: list[Receipt] = []

    async def publish(self, outgoing: Sequence[Outgoing]) -> list[Receipt]:
        receipts = await super().publish(outgoing)
        self.receipts += receipts
        return receipts


class ProxiedBackend:
    """A backend on real servers, in which one worker reaches the broker through a proxy."""

    def __init__(self, backend: ServerBackend) -> None:
        self._backend = backend
        #: None until the test sets it; connections made before go directly to the broker.
        self.proxy: Proxy | None = None
        self.blocked_transport: CountingTransport

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def transport(self, worker: str) -> Transport:
        if worker != BLOCKED or self.proxy is None:
            return self._backend.transport(worker)
        url = URL(self._backend.broker_url).with_host("127.0.0.1").with_port(self.proxy.port)
        self.blocked_transport = CountingTransport(str(url), f"{self._backend.prefix}.{worker}")
        return self.blocked_transport


def test_worker_recovers_from_a_blocked_publishing_connection(mode: Mode, real: Servers, prefix: str) -> None:
    async def play(system: System) -> None:
        backend = system.backend
        assert isinstance(backend, ProxiedBackend)
        target = URL(real.broker_url)
        await system.stop(BLOCKED)
        async with Proxy(target.host or "", target.port or 5672) as proxy:
            backend.proxy = proxy
            await system.start(BLOCKED)
            await system.running[BLOCKED].worker.ready.wait()
            await set_up_stock(system.stores["inventory"], {"plenty": ORDERS})
            run = JourneyRun(system)
            await run.wait_for_end(await run.place({"plenty": 1}))
            block(proxy, PUBLISHING)
            for _ in range(ORDERS - 1):
                await run.place({"plenty": 1})
            await system.wait_until(lambda: Receipt.UNKNOWN in backend.blocked_transport.receipts, "a publish to be in doubt")
            assert not all(run.has_ended(order_id) for order_id in run.order_ids)
            assert not system.running[BLOCKED].task.done(), "the worker ended"
            unblock(proxy, PUBLISHING)
            await finish(run)
            result = await run.result()
            assert proxy.accepted == 2, "a connection was replaced"
            await system.stop(BLOCKED)
        assert result.ends == {"COMPLETED": ORDERS}
        assert result.audit.ok, result.audit.findings
        assert await all_dead_letters(system) == {}

    on_servers(mode, ProxiedBackend(real.backend(prefix, LONG_TIMEOUTS)), play)  # type: ignore[arg-type]
