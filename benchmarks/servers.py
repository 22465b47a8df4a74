"""The servers of a benchmark: an existing RabbitMQ, and a database and a payment gateway of its own.

The database syncs every commit and keeps a large log (with the default size an insert becomes four times as expensive once the
log is full). Processes that are started here are stopped here.
"""

import asyncio
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aio_pika
from aiormq.exceptions import ChannelNotFoundEntity
from yarl import URL

from benchmarks.bare import BROKER_URL
from benchmarks.cpu import pids_by_name
from tests.support.servers import found, process

#: Seconds that consumers may take to appear or disappear.
CONSUMER_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Servers:
    """The servers of a benchmark. `env`: settings with their URLs; `processes`: those on this machine, process id -> name."""

    env: Mapping[str, str]
    processes: Mapping[int, str]
    description: str


@contextmanager
def serving() -> Iterator[Servers]:
    """Start a database, unless SAGA_STORE_URL names one, and a payment gateway; stop them at the end."""
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="saga-bench-")))
        processes = dict.fromkeys(pids_by_name("beam.smp"), "broker")
        store_url = os.environ.get("SAGA_STORE_URL")
        if store_url:
            processes |= dict.fromkeys(pids_by_name("mongod", "secantusd"), "database")
            description = f"database {URL(store_url).host}:{URL(store_url).port}"
        else:
            flags = ("--sync-on-commit", "--log-file-max", "128MB", "--oplog-max-entries", "100000000")
            store = stack.enter_context(process([found("secantusd-rs"), "--storage-path", str(home / "db"), *flags]))
            processes[store.popen.pid] = "database"
            store_url = f"mongodb://127.0.0.1:{store.port}/?directConnection=true"
            description = f"secantusd-rs {' '.join(flags)}"
        books = str(home / "books.db")
        gateway = stack.enter_context(process([sys.executable, "-m", "payment_gateway", "--books", books, "--faults"]))
        processes[gateway.popen.pid] = "gateway"
        urls = {"SAGA_STORE_URL": store_url, "SAGA_GATEWAY_URL": f"http://127.0.0.1:{gateway.port}"}
        broker = f"RabbitMQ {asyncio.run(_broker_version())}"
        yield Servers({**os.environ, **urls, "SAGA_BROKER_URL": BROKER_URL}, processes, f"{broker}, {description}")


async def _broker_version() -> str:
    async with await aio_pika.connect(BROKER_URL) as connection:
        transport = connection.transport
        assert transport is not None
        return str(transport.connection.server_properties["version"])


# --- queues -------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Queue:
    """The counts of a queue, as the broker reports them."""

    messages: int
    consumers: int


async def inspect_queues(names: list[str]) -> dict[str, Queue]:
    """The counts of those queues of `names` that exist."""
    seen = {}
    async with await aio_pika.connect(BROKER_URL) as connection:
        for name in names:
            channel = await connection.channel()  # one per queue, because the broker closes it when the queue does not exist
            try:
                declared = (await channel.declare_queue(name, passive=True)).declaration_result
            except ChannelNotFoundEntity:
                continue
            seen[name] = Queue(declared.message_count or 0, declared.consumer_count or 0)
            await channel.close()
    return seen


async def until_consumed(names: list[str], consumers: int) -> None:
    """Wait until each queue has this number of consumers. Raises TimeoutError."""
    seen: Any = None
    try:
        async with asyncio.timeout(CONSUMER_TIMEOUT_S):
            while True:
                seen = await inspect_queues(names)
                if all(name in seen and seen[name].consumers == consumers for name in names):
                    return
                await asyncio.sleep(0.1)
    except TimeoutError as error:
        raise TimeoutError(f"waited {CONSUMER_TIMEOUT_S:g} s for {consumers} consumer(s) per queue; last: {seen}") from error


async def delete(queues: list[str], exchanges: list[str]) -> None:
    """Delete queues and exchanges."""
    async with await aio_pika.connect(BROKER_URL) as connection:
        channel = await connection.channel()
        for name in queues:
            await channel.queue_delete(name, if_unused=False, if_empty=False)
        for name in exchanges:
            await channel.exchange_delete(name)
