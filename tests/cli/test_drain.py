"""SIGTERM under load: a worker ends within ten seconds, in good order, and nothing is lost. Real processes under `saga up`."""

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
from tests.support.cli import BOTH, SAGA, Up, alive, eventually, up
from tests.support.network.tcp_proxy import Proxy
from tests.support.wait import until

pytestmark = [pytest.mark.real, pytest.mark.usefixtures("removed")]

#: How long a worker may take to finish what it has in hand, in seconds.
DRAIN_S = 10.0
ORDERS = 600
#: Long enough that no order ends early because its worker was away.
UNHURRIED = {"SAGA_AUTHORIZE_TIMEOUT_S": "30", "SAGA_DEADLINE_S": "60"}


@contextmanager
def storm(running: Up) -> Iterator[subprocess.Popen[bytes]]:
    """Orders all the time, until all have ended."""
    words = ["storm", "--mode", running.mode, "--orders", str(ORDERS), "--in-flight", "60", "--timeout", "80", "--json"]
    process = subprocess.Popen([*SAGA, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=running.env)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(5)


def under_way(running: Up, more: int = 100) -> None:
    """Wait until the workers have said that they handled many more messages."""
    before = len(running.events())
    eventually(lambda: len(running.events()) > before + more, "the storm to be under way")


def judge(storming: subprocess.Popen[bytes], mode: Mode) -> None:
    """Every order ended as it was meant to, once, and the books agree."""
    out, err = storming.communicate(timeout=90)
    assert storming.returncode == 0, err
    report = json.loads(out)
    assert (report["ended"], report["completed"], report["unfinished"]) == (ORDERS, ORDERS, 0), mode
    assert report["audit"] == {"ok": True, "findings": []}


@BOTH
def test_each_worker_told_to_stop_under_load_drains_within_ten_seconds_and_nothing_is_lost(
    mode: Mode, env: dict[str, str], tmp_path: Path
) -> None:
    with up(mode, env | UNHURRIED, tmp_path / "log") as running, storm(running) as storming:
        took: dict[str, float] = {}
        for name in roles(mode):
            under_way(running)
            assert storming.poll() is None, "the storm was over before everybody had been told"
            pid, told_at = running.children()[name], time.monotonic()
            os.kill(pid, signal.SIGTERM)
            eventually(lambda pid=pid: not alive(pid), f"{name} to end", DRAIN_S)  # type: ignore[misc]
            took[name] = time.monotonic() - told_at
        judge(storming, mode)
        again = {event["worker"]: event["exit_code"] for event in running.events() if event["event"] == "worker_restarted"}
        assert again == dict.fromkeys(roles(mode), 0), f"not in good order: {again}"
        stopped = [event["service"] for event in running.events() if event["event"] == "stopped"]
        assert sorted(stopped) == sorted(roles(mode))
        assert max(took.values()) < DRAIN_S, took


@BOTH
def test_a_whole_mode_told_to_stop_under_load_drains_within_ten_seconds_and_ends_every_order_when_it_is_back(
    mode: Mode, env: dict[str, str], tmp_path: Path
) -> None:
    env |= UNHURRIED
    with up(mode, env, tmp_path / "log") as running, storm(running) as storming:
        under_way(running, 300)
        assert storming.poll() is None, "the storm was over before anybody was told"
        told_at = time.monotonic()
        running.process.terminate()
        assert running.process.wait(DRAIN_S + 2) == 0
        assert time.monotonic() - told_at < DRAIN_S + 1, "the workers drain at the same time, so the supervisor takes no longer"
        killed = [event for event in running.events() if event["event"] == "worker_restarted"]
        assert not killed
        with begun_again(running, tmp_path / "again"):
            judge(storming, mode)


@contextmanager
def begun_again(running: Up, log: Path) -> Iterator[None]:
    """The same mode once more, on what the first left."""
    with log.open("wb") as out:
        process = subprocess.Popen([*SAGA, "up", "--mode", running.mode], stdout=out, stderr=out, env=running.env)
    try:
        yield
    finally:
        process.terminate()
        process.wait(20)


MODE = Mode.ORCHESTRATOR


@asynccontextmanager
async def a_worker(env: dict[str, str]) -> AsyncIterator[asyncio.subprocess.Process]:
    """`saga worker inventory`, at work."""
    words = [*SAGA, "worker", "inventory", "--mode", MODE]
    process = await asyncio.create_subprocess_exec(
        *words, env=env, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(20):
            while b'"started"' not in (line := await process.stdout.readline()):
                assert line, "it ended before it was at work"
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_a_worker_whose_database_is_frozen_ends_within_ten_seconds_too_and_loses_nothing(
    env: dict[str, str], rabbit_url: str, mongo_url: str
) -> None:
    server, declared_topology = URL(mongo_url), topology(MODE)
    door = RabbitTransport(rabbit_url, "tests")
    await door.open()
    async with Proxy(server.host or "", server.port or 27017) as proxy:
        frozen = server.with_host("127.0.0.1").with_port(proxy.port)
        async with a_worker(env | {"SAGA_STORE_URL": str(frozen)}) as worker:
            proxy.freeze()
            environment = Environment()
            command = ReserveStock(order_id=environment.new_id(), details=sample_order([Line(sku="book", quantity=1)]))
            wire = encode(command, message_id=environment.new_id(), now=environment.now(), app_id="coordinator", origin=Origin())
            await door.publish([Outgoing(declared_topology.address_of(ReserveStock), wire)])
            await until(lambda: taken(door, "inventory"), "the worker to have it in hand")
            told_at = time.monotonic()
            worker.terminate()
            assert await asyncio.wait_for(worker.wait(), 30) == 1
            assert time.monotonic() - told_at < DRAIN_S
    async with a_worker(env) as worker:
        await until(lambda: depth_is(door, "coordinator", 1), "its answer to be published")
        worker.terminate()
        assert await asyncio.wait_for(worker.wait(), DRAIN_S) == 0
    assert await depth_is(door, "coordinator", 1)
    await door.close()


async def depth_is(door: RabbitTransport, worker: str, expected: int) -> bool:
    return await door.depth(queue_of(MODE, worker)) == expected


async def taken(door: RabbitTransport, worker: str) -> bool:
    return await depth_is(door, worker, 0)
