"""SIGTERM under load: a worker drains within ten seconds and no order is lost. Real processes under `saga up`."""

import asyncio
import json
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
from yarl import URL

from api.sample_orders import sample_order
from bootstrap.modes import Mode, roles, topology
from broker.codec import Origin, encode
from broker.environment import Environment
from broker.rabbitmq.transport import RabbitTransport
from broker.topology import queue_of
from broker.transport import Outgoing
from services.inventory.messages import ReserveStock
from services.vocabulary import Line
from tests.support.cli import BOTH, SAGA, RunningMode, alive, eventually, up
from tests.support.network.tcp_proxy import Proxy
from tests.support.wait import until

pytestmark = [pytest.mark.real, pytest.mark.usefixtures("removed")]

#: Seconds that a worker may take to drain.
DRAIN_S = 10.0
ORDERS = 600
#: Long enough that no order ends early because its worker was not running.
LONG_TIMEOUTS = {"SAGA_AUTHORIZE_TIMEOUT_S": "30", "SAGA_DEADLINE_S": "60"}


@contextmanager
def storm(running: RunningMode) -> Iterator[subprocess.Popen[bytes]]:
    """Run `saga storm` until all its orders have ended."""
    words = ["storm", "--mode", running.mode, "--orders", str(ORDERS), "--in-flight", "60", "--timeout", "80", "--json"]
    process = subprocess.Popen([*SAGA, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=running.env)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(5)


def wait_for_load(running: RunningMode, more: int = 100) -> None:
    """Wait until the workers have logged this many more events."""
    before = len(running.events())
    eventually(lambda: len(running.events()) > before + more, "the storm to be in progress")


def assert_all_completed(storming: subprocess.Popen[bytes], mode: Mode) -> None:
    """Every order completed once, and the audit passes."""
    out, err = storming.communicate(timeout=90)
    assert storming.returncode == 0, err
    report = json.loads(out)
    assert (report["ended"], report["completed"], report["unfinished"]) == (ORDERS, ORDERS, 0), mode
    assert report["audit"] == {"ok": True, "findings": []}


@BOTH
def test_each_worker_drains_within_ten_seconds_and_loses_no_order(mode: Mode, env: dict[str, str], tmp_path: Path) -> None:
    with up(mode, env | LONG_TIMEOUTS, tmp_path / "log") as running, storm(running) as storming:
        took: dict[str, float] = {}
        for name in roles(mode):
            wait_for_load(running)
            assert storming.poll() is None, "the storm ended before every worker got its signal"
            pid, signalled_at = running.children()[name], time.monotonic()
            os.kill(pid, signal.SIGTERM)
            eventually(lambda pid=pid: not alive(pid), f"{name} to end", DRAIN_S)  # type: ignore[misc]
            took[name] = time.monotonic() - signalled_at
        assert_all_completed(storming, mode)
        exit_codes = {event["worker"]: event["exit_code"] for event in running.events() if event["event"] == "worker_restarted"}
        assert exit_codes == dict.fromkeys(roles(mode), 0)
        stopped = [event["service"] for event in running.events() if event["event"] == "stopped"]
        assert sorted(stopped) == sorted(roles(mode))
        assert max(took.values()) < DRAIN_S, took


@BOTH
def test_mode_drains_within_ten_seconds_and_completes_every_order_later(mode: Mode, env: dict[str, str], tmp_path: Path) -> None:
    env |= LONG_TIMEOUTS
    with up(mode, env, tmp_path / "log") as running, storm(running) as storming:
        wait_for_load(running, 300)
        assert storming.poll() is None, "the storm ended before the signal"
        signalled_at = time.monotonic()
        running.process.terminate()
        assert running.process.wait(DRAIN_S + 2) == 0
        assert time.monotonic() - signalled_at < DRAIN_S + 1, "the workers drain concurrently"
        killed = [event for event in running.events() if event["event"] == "worker_restarted"]
        assert not killed
        with started_again(running, tmp_path / "again"):
            assert_all_completed(storming, mode)


@contextmanager
def started_again(running: RunningMode, log: Path) -> Iterator[None]:
    """Start the same mode again, on the data of the first run."""
    with log.open("wb") as out:
        process = subprocess.Popen([*SAGA, "up", "--mode", running.mode], stdout=out, stderr=out, env=running.env)
    try:
        yield
    finally:
        process.terminate()
        process.wait(20)


MODE = Mode.ORCHESTRATOR


@asynccontextmanager
async def running_worker(env: dict[str, str]) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run `saga worker inventory` until it is ready."""
    words = [*SAGA, "worker", "inventory", "--mode", MODE]
    process = await asyncio.create_subprocess_exec(
        *words, env=env, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(20):
            while b'"started"' not in (line := await process.stdout.readline()):
                assert line, "it ended before it was ready"
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_worker_with_a_frozen_database_drains_and_loses_no_message(
    env: dict[str, str], rabbit_url: str, mongo_url: str
) -> None:
    server, declared_topology = URL(mongo_url), topology(MODE)
    transport = RabbitTransport(rabbit_url, "tests")
    await transport.open()
    async with Proxy(server.host or "", server.port or 27017) as proxy:
        frozen = server.with_host("127.0.0.1").with_port(proxy.port)
        async with running_worker(env | {"SAGA_STORE_URL": str(frozen)}) as worker:
            proxy.freeze()
            environment = Environment()
            command = ReserveStock(order_id=environment.new_id(), details=sample_order([Line(sku="book", quantity=1)]))
            wire = encode(command, message_id=environment.new_id(), now=environment.now(), app_id="coordinator", origin=Origin())
            await transport.publish([Outgoing(declared_topology.address_of(ReserveStock), wire)])
            await until(lambda: taken(transport, "inventory"), "the worker to take the message")
            signalled_at = time.monotonic()
            worker.terminate()
            assert await asyncio.wait_for(worker.wait(), 30) == 1
            assert time.monotonic() - signalled_at < DRAIN_S
    async with running_worker(env) as worker:
        await until(lambda: depth_is(transport, "coordinator", 1), "its answer to be published")
        worker.terminate()
        assert await asyncio.wait_for(worker.wait(), DRAIN_S) == 0
    assert await depth_is(transport, "coordinator", 1)
    await transport.close()


async def depth_is(transport: RabbitTransport, worker: str, expected: int) -> bool:
    return await transport.depth(queue_of(MODE, worker)) == expected


async def taken(transport: RabbitTransport, worker: str) -> bool:
    return await depth_is(transport, worker, 0)
