"""A program that prints every message of a busy run that reached the broker, with the time of its arrival.

Run by tests/lab/test_determinism.py as `python -m tests.support.programs.run_trace MODE SEED`, under different hash seeds.
"""

import json
import logging
import sys
from collections.abc import Iterator

import structlog

from bootstrap.memory_backend import MemoryBackend
from bootstrap.modes import Mode
from broker.transport import Outgoing
from lab.journeys.catalogue import INITIAL_STOCK
from lab.journeys.run import JourneyRun
from lab.system import System, set_up_stock
from lab.virtual_time import run_on_virtual_time
from tests.support.broker.chaotic_transport import ChaoticBackend
from tests.support.system import finish, published

FAILURES = ("payment:declined", "payment:pending", "payment:hang", "delivery:undeliverable", "inventory:late", "delivery:error")


async def busy_run(mode: Mode, seed: int) -> list[str]:
    """Place thirty orders of all kinds, some withdrawn, with every message duplicated and delayed."""
    backend = ChaoticBackend(MemoryBackend(mode, seed), seed)
    arrivals: list[float] = []
    async with System(mode, backend) as system:
        await set_up_stock(system.stores["inventory"], {**INITIAL_STOCK, "plenty": 20})
        seen = published(system)
        backend.broker.on_publish.append(lambda _: arrivals.append(backend.environment.now()))
        run = JourneyRun(system)
        for number in range(30):
            failure = FAILURES[number % 10 :][:1]
            order_id = await run.place({"plenty": 1}, *failure)
            if number % 7 == 0:
                await run.withdraw(order_id)
        await finish(run)
        return list(_lines(arrivals, seen))


def _lines(arrivals: list[float], seen: list[Outgoing]) -> Iterator[str]:
    for at, item in zip(arrivals, seen, strict=True):
        wire, address = item.wire, item.address
        fields = [at, address.exchange, address.routing_key, wire.message_id, wire.type, dict(wire.headers), wire.body.decode()]
        yield json.dumps([*fields, item.delay_s])


if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    for line in run_on_virtual_time(busy_run(Mode(sys.argv[1]), int(sys.argv[2]))):
        sys.stdout.write(line + "\n")
