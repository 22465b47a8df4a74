"""Runs of a whole mode for tests: in memory on virtual time, or on real servers.

`in_memory` and `on_servers` run one program to its end and return its result. Runs on servers delete their queues, databases
and gateway book in every case, because leftover quorum queues slow a small RabbitMQ down.
"""

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from bootstrap.backend import Backend
from bootstrap.memory_backend import MemoryBackend
from bootstrap.modes import Mode, database_name, roles
from bootstrap.server_backend import ServerBackend
from broker.limits import Limits
from broker.memory.transport import MemoryBroker
from broker.topology import dead_queue, queue_of
from broker.transport import Outgoing, Wire
from lab.journeys.catalogue import INITIAL_STOCK
from lab.journeys.run import JourneyRun
from lab.system import RunningWorker, System, set_up_stock
from lab.virtual_time import run_on_virtual_time
from services.payment.domain import PaymentTimeouts
from services.timeouts import Timeouts
from tests.support import servers

T = TypeVar("T")
Program = Callable[[System], Awaitable[T]]

#: Short timeouts for runs on servers. A payment at the tests' gateways settles after 0.4 s.
SHORT_TIMEOUTS = Timeouts(deadline_s=3.5, payment=PaymentTimeouts(poll_interval_s=0.3, authorize_timeout_s=1.2))
#: A deadline and an authorization timeout that no order of a short test reaches.
LONG_TIMEOUTS = Timeouts(deadline_s=60.0, payment=PaymentTimeouts(poll_interval_s=0.5, authorize_timeout_s=30.0))
SHORT_LIMITS = Limits(timer_interval_s=0.1)
GATEWAY_TIMEOUT_S = 0.25
#: The time limit of one program on servers, in seconds.
REAL_TIMEOUT_S = 40.0
MODES = tuple(Mode)


# --- in memory ------------------------------------------------------------------------------------------------------------


def in_memory(mode: Mode, program: Program[T], backend: Callable[[Mode], Backend] = MemoryBackend) -> T:
    """Run `program` on the whole mode in memory, on virtual time, with the journeys' initial stock."""

    async def whole() -> T:
        async with System(mode, backend(mode)) as system:
            await set_up_stock(system.stores["inventory"], INITIAL_STOCK)
            return await program(system)

    return run_on_virtual_time(whole())


def published(system: System) -> list[Outgoing]:
    """A list of every message that reaches the in-memory broker from now on: commands, events, retries and dead letters."""
    messages: list[Outgoing] = []
    broker_of(system).on_publish.append(messages.append)
    return messages


def broker_of(system: System) -> MemoryBroker:
    """The in-memory broker of the system."""
    broker = getattr(system.backend, "broker", None)
    assert isinstance(broker, MemoryBroker), "this program runs in memory only"
    return broker


# --- on servers -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Servers:
    """The URLs of the servers."""

    broker_url: str
    store_url: str
    gateway_url: str

    def backend(self, prefix: str, timeouts: Timeouts = SHORT_TIMEOUTS) -> ServerBackend:
        return ServerBackend(
            prefix,
            self.broker_url,
            self.store_url,
            self.gateway_url,
            timeouts=timeouts,
            limits=SHORT_LIMITS,
            gateway_timeout_s=GATEWAY_TIMEOUT_S,
        )


@contextmanager
def temporary_prefix(real: Servers, mode: Mode) -> Iterator[str]:
    """A unique prefix for queues, databases and the gateway's book; everything under it is removed at the end."""
    prefix = f"t{uuid.uuid4().hex[:8]}"
    try:
        yield prefix
    finally:
        asyncio.run(_remove(real.backend(prefix), mode, prefix))
        # A server that no longer answers must fail the test, not block it.
        url = real.store_url + ("&" if "?" in real.store_url else "/?") + "socketTimeoutMS=10000"
        for worker in roles(mode):
            servers.drop(url, database_name(prefix, worker))


async def _remove(backend: ServerBackend, mode: Mode, prefix: str) -> None:
    from bootstrap.modes import topology  # noqa: PLC0415 - `topology` is also a good name for other things here

    transport = backend.transport("cleaner")
    await transport.open()
    try:
        await transport.delete(topology(mode, prefix))
    finally:
        await transport.close()
    await backend.clear_books()


def on_servers(mode: Mode, backend: ServerBackend, program: Program[T]) -> T:
    """Run `program` on the whole mode on servers, with the journeys' initial stock. Leaves no message and no data."""

    async def whole() -> T:
        async with System(mode, backend, backend.prefix) as system:
            try:
                await set_up_stock(system.stores["inventory"], INITIAL_STOCK)
                async with asyncio.timeout(REAL_TIMEOUT_S):
                    return await program(system)
            finally:
                await _empty(system, backend)

    return asyncio.run(whole())


async def _empty(system: System, backend: ServerBackend) -> None:
    for name in list(system.running):
        await system.stop(name)
    await system.client.transport.purge(system.client.topology)
    for store in system.stores.values():
        await store.wipe()
    await backend.clear_books()


# --- the state of a mode --------------------------------------------------------------------------------------------------


async def dead_letters(system: System, worker: str, limit: int = 1_000) -> list[Wire]:
    queue = dead_queue(queue_of(system.client.topology.prefix, worker))
    return await system.client.transport.get(queue, limit)


async def all_dead_letters(system: System) -> dict[str, list[str]]:
    """Worker -> the reasons of its dead letters; workers without dead letters are omitted."""
    found = {worker: await dead_letters(system, worker) for worker in roles(system.mode)}
    return {worker: [str(wire.headers.get("dead_reason")) for wire in wires] for worker, wires in found.items() if wires}


def replica_name(worker: str) -> str:
    return f"{worker}, replica"


async def start_replica(system: System, worker: str) -> None:
    """Start a second worker of the same role, with clients of its own."""
    first: RunningWorker = system.running.pop(worker)
    await system.start(worker)
    system.running[replica_name(worker)] = system.running.pop(worker)
    system.running[worker] = first


async def finish(run: JourneyRun) -> None:
    """Wait for the end of every order that the run has placed, then until the system is idle."""
    for order_id in run.order_ids:
        await run.wait_for_end(order_id)
    await run.system.wait_until_idle()
