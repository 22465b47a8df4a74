"""Broker and database are cut off and frozen under load: all workers recover and nothing is lost.

The outages are those of proxies in front of the servers, because other tests use the servers as well. `saga chaos` kills servers.
"""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from yarl import URL

from bootstrap.modes import Mode, roles
from bootstrap.server_backend import ServerBackend
from broker.transport import Transport
from lab.journeys.run import JourneyRun
from lab.system import System, set_up_stock
from store.protocol import Store
from tests.support.network.tcp_proxy import Proxy
from tests.support.system import LONG_TIMEOUTS, Servers, all_dead_letters, finish

pytestmark = pytest.mark.real

#: Orders placed during each fault, and as many after it.
ORDERS = 15
#: The duration of an outage, in seconds.
OUTAGE_S = 1.5


class ProxiedBackend:
    """A server back end whose workers reach broker and database through proxies; the client connects directly."""

    def __init__(self, direct: ServerBackend, proxied: ServerBackend) -> None:
        self._direct = direct
        self._proxied = proxied

    def __getattr__(self, name: str) -> Any:
        return getattr(self._direct, name)

    def transport(self, worker: str) -> Transport:
        return (self._direct if worker == "api" else self._proxied).transport(worker)

    def store(self, worker: str) -> Store:
        return self._proxied.store(worker)


def cut(proxy: Proxy) -> Callable[[], None]:
    """Reset every connection and accept none. Returns a function that ends this."""
    proxy.cut()
    return proxy.restore


def freeze(proxy: Proxy) -> Callable[[], None]:
    """Keep every connection and pass nothing on, like a stopped server. Returns a function that ends this."""
    proxy.freeze()
    return proxy.thaw


def behind(url: str, proxy: Proxy) -> str:
    """The URL of the same server through the proxy."""
    return str(URL(url).with_host("127.0.0.1").with_port(proxy.port))


async def faults_under_load(system: System, broker: Proxy, database: Proxy) -> None:
    await set_up_stock(system.stores["inventory"], {"plenty": 1_000})
    run = JourneyRun(system)
    for fault, server in ((cut, broker), (freeze, database), (freeze, broker), (cut, database)):
        end_fault = fault(server)
        during = [await run.place({"plenty": 1}) for _ in range(ORDERS)]
        await asyncio.sleep(OUTAGE_S)  # the outage itself
        assert not any(run.has_ended(order_id) for order_id in during), f"{fault.__name__} had no effect"
        end_fault()
        after = [await run.place({"plenty": 1}) for _ in range(ORDERS)]
        for order_id in during + after:
            await run.wait_for_end(order_id)
    await finish(run)
    result = await run.result()
    assert result.ends == {"COMPLETED": 8 * ORDERS}
    assert result.audit.ok, result.audit.findings
    assert await all_dead_letters(system) == {}
    assert set(system.running) == set(roles(system.mode))


def test_workers_recover_from_broker_and_database_outages(mode: Mode, real: Servers, prefix: str) -> None:
    async def whole() -> None:
        broker_url, store_url = URL(real.broker_url), URL(real.store_url)
        async with (
            Proxy(broker_url.host or "", broker_url.port or 5672) as broker,
            Proxy(store_url.host or "", store_url.port or 27017) as database,
        ):
            proxied = Servers(behind(real.broker_url, broker), behind(real.store_url, database), real.gateway_url)
            backend = ProxiedBackend(real.backend(prefix, LONG_TIMEOUTS), proxied.backend(prefix, LONG_TIMEOUTS))
            async with System(mode, backend, prefix) as system, asyncio.timeout(60):  # type: ignore[arg-type]
                await faults_under_load(system, broker, database)
            await backend.clear_books()

    asyncio.run(whole())
