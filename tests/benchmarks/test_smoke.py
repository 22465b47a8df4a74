"""Smoke tests of the benchmarks, with few orders. No figure is asserted, because a busy machine would fail it.

They run on the RabbitMQ of the other tests, and a database and a gateway that the benchmark starts.
"""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bootstrap.modes import Mode, topology
from broker.rabbitmq.transport import RabbitTransport
from broker.transport import QueueMissing, UnsafeTopology
from tests.support import prerequisites
from tests.support.servers import NoServer, found

ROOT = Path(__file__).parents[2]
#: Starting and stopping nine workers and four storms takes about half a minute on a busy machine.
TIMEOUT_S = 240

RATIO_FIELDS = {"row", "mode", "title", "figure", "floor", "median_ratio", "min_ratio", "max_ratio", "met", "repeated", "pairs"}
RUN_FIELDS = {"orders", "ended", "completed", "seconds", "rate_per_s", "p50_ms", "p99_ms", "foreign_percent", "cpu_ms_per_order"}
#: Messages from PlaceOrder to OrderCompleted, on both sides of the comparison.
MESSAGES = {Mode.CHOREOGRAPHY: 6, Mode.ORCHESTRATOR: 10}


@pytest.fixture(scope="module", autouse=True)
def _a_database_can_be_started() -> None:
    try:
        found("secantusd-rs")
    except NoServer as reason:
        prerequisites.OWN_SERVERS.missing(str(reason))


async def empty(rabbit_url: str, mode: Mode) -> None:
    """Empty the mode's queues, which the CLI's tests use too: the benchmark does not start while they hold messages."""
    transport = RabbitTransport(rabbit_url, "benchmark test")
    await transport.open()
    try:
        await transport.purge(topology(mode))
    except UnsafeTopology:
        pass  # the queues do not exist
    finally:
        await transport.close()


def bench(rabbit_url: str, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks", *options]
    environment = {**os.environ, "SAGA_BROKER_URL": rabbit_url}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)


async def quick(rabbit_url: str, mode: Mode, row: str) -> dict[str, Any]:
    """The JSON of one row in one mode."""
    await empty(rabbit_url, mode)
    done = await asyncio.to_thread(bench, rabbit_url, "--quick", "--json", "--mode", mode, "--row", row)
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report


@pytest.mark.real
@pytest.mark.timeout(TIMEOUT_S)
async def test_row_is_measured_and_reported_as_json(rabbit_url: str) -> None:
    report = await quick(rabbit_url, Mode.CHOREOGRAPHY, "bare-100")

    (row,) = report["rows"]
    assert row.keys() >= RATIO_FIELDS
    (pair,) = row["pairs"]
    assert pair["ratio"] > 0
    for side in (pair["ours"], pair["other"]):
        assert side.keys() >= RUN_FIELDS
        assert side["completed"] == side["orders"] > 0
        assert side["cpu_ms_per_order"].keys() >= {"order", "inventory", "payment", "delivery", "storm", "gateway"}


@pytest.mark.real
@pytest.mark.timeout(TIMEOUT_S)
async def test_observer_is_measured_on_one_side_only_and_leaves_no_queue(rabbit_url: str) -> None:
    report = await quick(rabbit_url, Mode.CHOREOGRAPHY, "observed")

    (pair,) = report["rows"][0]["pairs"]
    assert "observer" in pair["ours"]["cpu_ms_per_order"]
    assert "observer" not in pair["other"]["cpu_ms_per_order"]
    transport = RabbitTransport(rabbit_url, "benchmark test")
    await transport.open()
    with pytest.raises(QueueMissing):
        await transport.depth("choreography.observer")
    await transport.close()


@pytest.mark.real
@pytest.mark.timeout(TIMEOUT_S)
@pytest.mark.parametrize("mode", list(MESSAGES))
async def test_bare_chain_sends_as_many_messages_of_the_same_size_as_ours(rabbit_url: str, mode: Mode) -> None:
    report = await quick(rabbit_url, mode, "per-order")

    mine, bare = report["per_order"]
    assert (mine["side"], bare["side"]) == ("ours", "bare chain")
    assert mine["messages"] == bare["messages"] == MESSAGES[mode]
    assert (mine["body_bytes"], mine["property_bytes"]) == (bare["body_bytes"], bare["property_bytes"])
    assert mine["transactions"] > 0 == bare["transactions"]


@pytest.mark.real
def test_unknown_row_is_refused_with_the_known_names(rabbit_url: str) -> None:
    done = bench(rabbit_url, "--row", "faster")

    assert done.returncode == 2
    assert "faster" in done.stderr
    assert "bare-100" in done.stderr
