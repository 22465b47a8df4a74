"""`saga worker` on unsafe servers: it ends at once with one sentence that names the remedy.

Uses real servers and a real process. Missing declarations are made where the user has permission.
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


def start_error(env: dict[str, str], *flags: str) -> str:
    """The error of `saga worker inventory`, which must end by itself with exit code 1, one sentence and no traceback."""
    words = [sys.executable, "-m", "cli", "worker", "inventory", "--mode", MODE, *flags]
    result = subprocess.run(words, capture_output=True, text=True, timeout=30, env=env, check=False)
    assert result.returncode == 1, result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    sentences = [line for line in result.stderr.splitlines() if line.startswith("saga: ")]
    assert len(sentences) == 1, result.stderr
    return sentences[0]


def test_database_without_transactions_is_refused(env: dict[str, str], standalone: str) -> None:
    error = start_error(env | {"SAGA_STORE_URL": standalone})
    assert "standalone server, which has no transactions" in error
    assert "--replSet" in error


def test_store_url_without_durable_commits_is_refused(env: dict[str, str]) -> None:
    url = URL(env["SAGA_STORE_URL"]).update_query(journal="false")
    error = start_error(env | {"SAGA_STORE_URL": str(url)})
    assert "not durable: take w and journal out of the URL" in error


def test_wrong_password_is_not_reported_as_a_missing_broker(env: dict[str, str]) -> None:
    error = start_error(env | {"SAGA_BROKER_URL": str(URL(env["SAGA_BROKER_URL"]).with_password("wrong"))})
    assert "refused the user name or password" in error
    assert "Correct user, password and virtual host in SAGA_BROKER_URL" in error
    assert "Start it" not in error


async def declare(url: str, declared_topology: Topology) -> None:
    transport = RabbitTransport(url, "tests")
    await transport.open()
    await transport.declare(declared_topology)
    await transport.close()


async def test_queue_that_is_declared_differently_is_refused(env: dict[str, str], rabbit_url: str) -> None:
    await declare(rabbit_url, replace(topology(MODE), delivery_limit=3))
    error = start_error(env)
    assert f"declaring queue {MODE}." in error
    assert "declared differently. Drain and delete it (`saga reset`), or use another prefix" in error


@pytest.fixture
async def declared_topology(rabbit_url: str) -> None:
    """Declare the topology of the mode."""
    await declare(rabbit_url, topology(MODE))


def test_missing_permission_to_declare_is_reported_without_the_password(env: dict[str, str], reader_url: str) -> None:
    error = start_error(env | {"SAGA_BROKER_URL": reader_url})
    assert "no permission for it. An administrator must declare the topology or grant it" in error
    assert "secret" not in error


def test_existing_topology_need_not_be_declared(
    env: dict[str, str], declared_topology: None, reader_url: str, tmp_path: Path
) -> None:
    """An administrator has declared it, for users without the permission."""
    ready = tmp_path / "ready"
    words = [sys.executable, "-m", "cli", "worker", "inventory", "--mode", MODE]
    env |= {"SAGA_BROKER_URL": reader_url, "SAGA_READY_FILE": str(ready)}
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env=env) as process:
        try:
            eventually(lambda: ready.exists() or process.poll() is not None, "the worker to be ready")
        finally:
            process.terminate()
        _, errors = process.communicate(timeout=20)
    assert process.returncode == 0, errors


async def test_exchange_of_an_earlier_version_is_refused_until_it_is_deleted(env: dict[str, str], rabbit_url: str) -> None:
    """An earlier version declared the exchange of commands as direct."""
    commands = commands_exchange(topology(MODE).prefix)
    async with await aio_pika.connect(rabbit_url) as connection, connection.channel() as channel:
        await channel.declare_exchange(commands, "direct", durable=True)
        error = start_error(env)
        assert f"declaring exchange {commands}" in error
        assert "declared differently. Drain and delete it (`saga reset`), or use another prefix" in error
        assert "received 'topic' but current is 'direct'" in error
        await channel.exchange_delete(commands)
    await declare(rabbit_url, topology(MODE))


async def test_missing_binding_is_reported_to_the_sender_and_declared_at_start(rabbit_url: str) -> None:
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
