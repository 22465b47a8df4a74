"""Counts every message that one mode publishes. `python -m benchmarks.recorder PREFIX`, until SIGTERM.

Consumes an exclusive queue that is bound to every message of both exchanges. Prints `ready` once it consumes, and at the end
{messages, body_bytes, property_bytes} as JSON.
"""

import asyncio
import json
import signal
import sys

import aio_pika
from aio_pika.abc import AbstractIncomingMessage

from benchmarks.bare import BROKER_URL
from broker.topology import commands_exchange, events_exchange


async def record(prefix: str) -> dict[str, int]:
    """Count until SIGTERM."""
    counts = {"messages": 0, "body_bytes": 0, "property_bytes": 0}
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)

    async def count(incoming: AbstractIncomingMessage) -> None:
        counts["messages"] += 1
        counts["body_bytes"] += incoming.body_size or 0
        counts["property_bytes"] += len(incoming.properties.marshal())

    async with await aio_pika.connect(BROKER_URL) as connection:
        channel = await connection.channel()
        queue = await channel.declare_queue(exclusive=True, auto_delete=True)
        for exchange in (events_exchange(prefix), commands_exchange(prefix)):
            await queue.bind(exchange, "#")
        await queue.consume(count, no_ack=True)
        print("ready", flush=True)
        await stopped.wait()
    return counts


if __name__ == "__main__":
    print(json.dumps(asyncio.run(record(sys.argv[1]))))
