"""Fixtures for commands on real servers: their environment, and the removal of their queues and databases."""

import os
from pathlib import Path
from typing import Any

import pytest

from bootstrap.modes import Mode, database_name, roles, topology
from broker.rabbitmq.transport import RabbitTransport
from observer.recorder import NAME as OBSERVER
from observer.recorder import with_observer
from tests.support import servers


@pytest.fixture
def env(rabbit_url: str, mongo_url: str, tmp_path: Path) -> dict[str, str]:
    """The environment of a command: real servers, a gateway of its own, and short timeouts."""
    return os.environ | {
        "SAGA_BROKER_URL": rabbit_url,
        "SAGA_STORE_URL": mongo_url,
        "SAGA_GATEWAY_URL": f"http://127.0.0.1:{servers.free_port()}",
        "SAGA_GATEWAY_BOOKS": str(tmp_path / "books.db"),
        "SAGA_DEADLINE_S": "6",
        "SAGA_AUTHORIZE_TIMEOUT_S": "1.5",
        "SAGA_POLL_INTERVAL_S": "0.4",
        "SAGA_GATEWAY_TIMEOUT_S": "0.3",
    }


@pytest.fixture
async def removed(rabbit_url: str, mongo_url: str) -> Any:
    """Delete the queues and databases of both modes after the test."""
    yield
    transport = RabbitTransport(rabbit_url, "tests")
    await transport.open()
    for mode in Mode:
        await transport.delete(with_observer(topology(mode)))
        for worker in (*roles(mode), OBSERVER):
            servers.drop(mongo_url, database_name(mode, worker))
    await transport.close()
