"""What the tests of the flow share: one mode as a whole, run in memory on virtual time or on real parts, then looked at.

`in_memory` and `on_real_parts` run one program to its end and give what it gives. Real parts leave nothing behind:
their queues, databases and gateway book are deleted whatever happens, because leaked quorum queues wedge a small RabbitMQ.
"""

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from bootstrap.backend import Parts
from bootstrap.memory_backend import EmbeddedParts
from bootstrap.modes import Mode, database_of, roles
from bootstrap.server_backend import ConnectedParts
from broker.limits import Limits
from broker.memory.transport import MemoryBroker
from broker.topology import dead_queue, queue_of
from broker.transport import Outgoing, Wire
from lab.journeys.catalogue import SHELF
from lab.journeys.run import Run
from lab.system import Running, System, set_up_stock
from lab.virtual_time import run_virtually
from services.payment.domain import PaymentTimes
from services.registry import Times
from tests.support import servers

T = TypeVar("T")
Program = Callable[[System], Awaitable[T]]

#: On real parts nobody wants to wait half a minute for a deadline. A payment at the tests' gateways settles after 0.4 s.
SHORT_TIMES = Times(deadline_s=3.5, payment=PaymentTimes(look_again_s=0.3, patience_s=1.2))
#: A deadline and patience that no order of a short test meets.
UNHURRIED = Times(deadline_s=60.0, payment=PaymentTimes(look_again_s=0.5, patience_s=30.0))
SHORT_LIMITS = Limits(watch_interval_s=0.1)
GATEWAY_TIMEOUT_S = 0.25
#: The longest that one program on real parts may take.
REAL_PATIENCE_S = 40.0
MODES = tuple(Mode)


# --- in memory ------------------------------------------------------------------------------------------------------------


def in_memory(mode: Mode, program: Program[T], parts: Callable[[Mode], Parts] = EmbeddedParts) -> T:
    """Run `program` against the whole mode in memory, on virtual time, with the journeys' shelf set up."""

    async def whole() -> T:
        async with System(mode, parts(mode)) as system:
            await set_up_stock(system.stores["inventory"], SHELF)
            return await program(system)

    return run_virtually(whole())


def published(system: System) -> list[Outgoing]:
    """From now on, every message that reaches the broker in memory: commands, events, retries and dead letters."""
    messages: list[Outgoing] = []
    broker_of(system).on_publish.append(messages.append)
    return messages


def broker_of(system: System) -> MemoryBroker:
    """The broker in memory that the system runs on."""
    broker = getattr(system.parts, "broker", None)
    assert isinstance(broker, MemoryBroker), "this program runs in memory only"
    return broker


# --- on real parts --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Servers:
    """Where the real parts are."""

    broker_url: str
    store_url: str
    gateway_url: str

    def parts(self, prefix: str, times: Times = SHORT_TIMES) -> ConnectedParts:
        return ConnectedParts(
            prefix,
            self.broker_url,
            self.store_url,
            self.gateway_url,
            times=times,
            limits=SHORT_LIMITS,
            gateway_timeout_s=GATEWAY_TIMEOUT_S,
        )


@contextmanager
def a_prefix(real: Servers, mode: Mode) -> Iterator[str]:
    """A name for queues, databases and book that nobody else has; everything under it is removed at the end."""
    prefix = f"t{uuid.uuid4().hex[:8]}"
    try:
        yield prefix
    finally:
        asyncio.run(_remove(real.parts(prefix), mode, prefix))
        # A server that no longer answers shall fail the test, not hold it up for ever.
        url = real.store_url + ("&" if "?" in real.store_url else "/?") + "socketTimeoutMS=10000"
        for worker in roles(mode):
            servers.drop(url, database_of(prefix, worker))


async def _remove(parts: ConnectedParts, mode: Mode, prefix: str) -> None:
    from bootstrap.modes import topology  # noqa: PLC0415 - `topology` is also a good name for other things here

    transport = parts.transport("cleaner")
    await transport.open()
    try:
        await transport.delete(topology(mode, prefix))
    finally:
        await transport.close()
    await parts.empty_books()


def on_real_parts(mode: Mode, parts: ConnectedParts, program: Program[T]) -> T:
    """Run `program` against the whole mode under the prefix of `parts`, with the shelf set up; leaves no message and no data."""

    async def whole() -> T:
        async with System(mode, parts, parts.prefix) as system:
            try:
                await set_up_stock(system.stores["inventory"], SHELF)
                async with asyncio.timeout(REAL_PATIENCE_S):
                    return await program(system)
            finally:
                await _empty(system, parts)

    return asyncio.run(whole())


async def _empty(system: System, parts: ConnectedParts) -> None:
    for name in list(system.running):
        await system.stop(name)
    await system.door.transport.purge(system.door.topology)
    for store in system.stores.values():
        await store.wipe()
    await parts.empty_books()


# --- looking at a mode ----------------------------------------------------------------------------------------------------


async def dead_letters(system: System, worker: str, limit: int = 1_000) -> list[Wire]:
    queue = dead_queue(queue_of(system.door.topology.prefix, worker))
    return await system.door.transport.get(queue, limit)


async def all_dead_letters(system: System) -> dict[str, list[str]]:
    """Worker -> the reasons of its dead letters; workers without any are left out."""
    found = {worker: await dead_letters(system, worker) for worker in roles(system.mode)}
    return {worker: [str(wire.headers.get("dead_reason")) for wire in wires] for worker, wires in found.items() if wires}


def replica_name(worker: str) -> str:
    return f"{worker}, replica"


async def start_replica(system: System, worker: str) -> None:
    """A second worker of the same role beside the first, with clients of its own."""
    first: Running = system.running.pop(worker)
    await system.start(worker)
    system.running[replica_name(worker)] = system.running.pop(worker)
    system.running[worker] = first


async def finish(run: Run) -> None:
    """Wait for the end of every order that the run has placed, then for all to come to rest."""
    for order_id in run.order_ids:
        await run.end_of(order_id)
    await run.system.at_rest()
