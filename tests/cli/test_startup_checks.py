"""What `saga worker` does on servers that are not safe: it ends at once with one sentence that says what to do.

Real servers, and a real process. What is missing on the broker and may be made is made instead.
"""

import subprocess
import sys
import uuid
from dataclasses import replace
from pathlib import Path

import aio_pika
import pytest
from yarl import URL

from api.broker_client import BrokerOrderClient
from bootstrap.modes import Mode, topology
from broker.environment import Environment
from broker.rabbitmq.transport import RabbitTransport
from broker.topology import Topology, commands_exchange, queue_of
from broker.transport import Receipt
from services.order.messages import WithdrawOrder
from services.vocabulary import Reason
from tests.support.cli import eventually

pytestmark = [pytest.mark.real, pytest.mark.usefixtures("removed")]

MODE = Mode.ORCHESTRATOR


def started(env: dict[str, str], *flags: str) -> str:
    """What `saga worker inventory` says when it ends. It must end by itself, with exit code 1, one sentence and no traceback."""
    words = [sys.executable, "-m", "cli", "worker", "inventory", "--mode", MODE, *flags]
    said = subprocess.run(words, capture_output=True, text=True, timeout=30, env=env, check=False)
    assert said.returncode == 1, said.stdout + said.stderr
    assert "Traceback" not in said.stderr
    sentences = [line for line in said.stderr.splitlines() if line.startswith("saga: ")]
    assert len(sentences) == 1, said.stderr
    return sentences[0]


def test_a_database_without_transactions_is_refused(env: dict[str, str], standalone: str) -> None:
    said = started(env | {"SAGA_STORE_URL": standalone})
    assert "standalone server, which has no transactions" in said
    assert "--replSet" in said


def test_a_database_that_would_not_sync_is_refused(env: dict[str, str]) -> None:
    url = URL(env["SAGA_STORE_URL"]).update_query(journal="false")
    said = started(env | {"SAGA_STORE_URL": str(url)})
    assert "not durable: take w and journal out of the URL" in said


def test_a_wrong_password_is_not_taken_for_a_broker_that_is_away(env: dict[str, str]) -> None:
    said = started(env | {"SAGA_BROKER_URL": str(URL(env["SAGA_BROKER_URL"]).with_password("wrong"))})
    assert "refused the user name or password" in said
    assert "Correct user, password and virtual host in SAGA_BROKER_URL" in said
    assert "Start it" not in said


async def declare(url: str, declared_topology: Topology) -> None:
    transport = RabbitTransport(url, "tests")
    await transport.open()
    await transport.declare(declared_topology)
    await transport.close()


async def test_a_queue_that_was_declared_differently_is_refused(env: dict[str, str], rabbit_url: str) -> None:
    await declare(rabbit_url, replace(topology(MODE), delivery_limit=3))
    said = started(env)
    assert f"declaring queue {MODE}." in said
    assert "declared differently. Drain and delete it (`saga reset`), or use another prefix" in said


@pytest.fixture
async def declared_topology(rabbit_url: str) -> None:
    """All that the mode needs on the broker."""
    await declare(rabbit_url, topology(MODE))


def test_furniture_that_may_not_be_made_is_refused_and_the_password_kept(env: dict[str, str], reader_url: str) -> None:
    said = started(env | {"SAGA_BROKER_URL": reader_url})
    assert "no permission for it. An administrator must declare the topology or grant it" in said
    assert "secret" not in said


def test_furniture_that_is_there_need_not_be_declared(
    env: dict[str, str], declared_topology: None, reader_url: str, tmp_path: Path
) -> None:
    """As an administrator declares it, for users who may not."""
    ready = tmp_path / "ready"
    words = [sys.executable, "-m", "cli", "worker", "inventory", "--mode", MODE]
    env |= {"SAGA_BROKER_URL": reader_url, "SAGA_READY_FILE": str(ready)}
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env=env) as process:
        try:
            eventually(lambda: ready.exists() or process.poll() is not None, "the worker to be ready")
        finally:
            process.terminate()
        _, said = process.communicate(timeout=20)
    assert process.returncode == 0, said


async def test_an_exchange_of_an_earlier_version_is_refused_and_made_anew_once_it_is_deleted(
    env: dict[str, str], rabbit_url: str
) -> None:
    """Commands went through a direct exchange once."""
    commands = commands_exchange(topology(MODE).prefix)
    async with await aio_pika.connect(rabbit_url) as connection, connection.channel() as channel:
        await channel.declare_exchange(commands, "direct", durable=True)
        said = started(env)
        assert f"declaring exchange {commands}" in said
        assert "declared differently. Drain and delete it (`saga reset`), or use another prefix" in said
        assert "received 'topic' but current is 'direct'" in said
        await channel.exchange_delete(commands)
    await declare(rabbit_url, topology(MODE))


async def test_a_binding_that_is_missing_is_said_by_whoever_sends_and_made_by_the_worker_that_starts(rabbit_url: str) -> None:
    declared_topology = topology(MODE, f"t{uuid.uuid4().hex[:8]}")
    transport = RabbitTransport(rabbit_url, "tests")
    await transport.open()
    await transport.declare(declared_topology)
    order_client = BrokerOrderClient(transport, declared_topology, Environment())
    try:
        await unbind(
            rabbit_url,
            queue_of(declared_topology.prefix, "order"),
            commands_exchange(declared_topology.prefix),
            WithdrawOrder.type_name,
        )
        command = order_client.outgoing(WithdrawOrder(order_id=Environment().new_id(), reason=Reason.WITHDRAWN), ())
        assert await transport.publish([command]) == [Receipt.UNROUTABLE]
        await transport.declare(declared_topology)  # as every worker does when it starts
        assert await transport.publish([command]) == [Receipt.CONFIRMED]
    finally:
        await transport.delete(declared_topology)
        await transport.close()


async def unbind(url: str, queue: str, exchange: str, routing_key: str) -> None:
    async with await aio_pika.connect(url) as connection, connection.channel() as channel:
        await (await channel.get_queue(queue, ensure=False)).unbind(exchange, routing_key)
