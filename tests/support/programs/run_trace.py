"""A program that prints the trace of a busy run: every message that reached the broker, whole, with the time of its arrival.

Run by test_repeatable.py as `python -m tests.support.programs.run_trace MODE SEED`, under different hash seeds.
"""

import json
import logging
import sys
from collections.abc import Iterator

import structlog

from bootstrap.memory_backend import EmbeddedParts
from bootstrap.modes import Mode
from broker.transport import Outgoing
from lab.journeys.catalogue import SHELF
from lab.journeys.run import Run
from lab.system import System, set_up_stock
from lab.virtual_time import run_virtually
from tests.support.broker.chaotic_transport import MischievousParts
from tests.support.system import finish, published

FAILURES = ("payment:declined", "payment:pending", "payment:hang", "delivery:undeliverable", "inventory:late", "delivery:error")


async def busy_run(mode: Mode, seed: int) -> list[str]:
    """Thirty orders of all kinds, some withdrawn, every message twice and late."""
    parts = MischievousParts(EmbeddedParts(mode, seed), seed)
    arrivals: list[float] = []
    async with System(mode, parts) as system:
        await set_up_stock(system.stores["inventory"], {**SHELF, "plenty": 20})
        seen = published(system)
        parts.broker.on_publish.append(lambda _: arrivals.append(parts.sources.now()))
        run = Run(system)
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
    for line in run_virtually(busy_run(Mode(sys.argv[1]), int(sys.argv[2]))):
        sys.stdout.write(line + "\n")
