"""The container stack, as README has it: up in each mode, orders through it, audited, down.

Room: tests/. Needs a Docker engine with compose, and images (from a registry or local); the names can be overridden by
RABBITMQ_IMAGE, MONGO_IMAGE, PYTHON_IMAGE.
"""

import asyncio
import json
import os
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from cli import via
from cli.reference import ROOT
from lab.door import order_of
from lab.modes import Mode, roles
from services.vocabulary import Line
from tests import servers

pytestmark = [pytest.mark.real, pytest.mark.timeout(600)]

ENV = os.environ | {"COMPOSE_PROJECT_NAME": f"saga-test-{os.getpid()}", "SAGA_IMAGE": "saga:test", "API_PORT": "0"}


def compose(mode: Mode, *words: str, timeout_s: float = 300) -> str:
    said = subprocess.run(
        ["docker", "compose", *words],
        cwd=ROOT,
        env=ENV | {"MODE": mode},
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    assert said.returncode == 0, f"docker compose {' '.join(words)}: {said.stderr[-3000:]}"
    return said.stdout


def saga(mode: Mode, *words: str) -> Any:
    return json.loads(compose(mode, "run", "--rm", "-T", "saga", *words, "--json"))


def restarts(mode: Mode, service: str) -> int:
    """How often the engine has started a service's container again."""
    container = compose(mode, "ps", "--quiet", service).strip()
    words = ["docker", "inspect", "--format", "{{.RestartCount}}", container]
    return int(subprocess.run(words, capture_output=True, text=True, timeout=60, check=True).stdout)


def rights(mode: Mode, service: str) -> tuple[str, str, str]:
    """What a service's process may do: its user id, its effective capabilities, and whether it can write beside its own code."""
    look = "id -u; grep CapEff /proc/self/status | cut -f2; touch /app/x 2>/dev/null && echo writes || echo reads"
    user, capabilities, files = compose(mode, "exec", "-T", service, "sh", "-c", look).split()
    return user, capabilities, files


def published(mode: Mode) -> set[str]:
    """The services with a port on this machine."""
    services = [json.loads(line) for line in compose(mode, "ps", "--format", "json").splitlines()]
    return {service["Service"] for service in services if any(port["PublishedPort"] for port in service["Publishers"] or ())}


async def placed_through(door: str, sku: str) -> dict[str, str | None]:
    """The end of an order for one unit, placed over HTTP from outside of the stack."""
    return await via.place(door, order_of([Line(sku=sku, quantity=1)]), [], patience_s=60.0)


@pytest.fixture(scope="module")
def engine() -> Iterator[None]:
    """An engine that has, or can get, what the stack needs. Whatever came up in a test goes down after all of them."""
    try:
        servers.engine_answers()
    except servers.NoServer as reason:
        missing = pytest.fail if os.environ.get("CI") else pytest.skip
        missing(f"no Docker engine: {reason}")
    yield
    compose(Mode.ORCHESTRATOR, "down", "--volumes", "--remove-orphans", "--timeout", "15")


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("mode", list(Mode))
def test_the_stack_comes_up_takes_orders_fails_as_asked_and_its_books_balance(mode: Mode) -> None:
    compose(mode, "up", "--build", "--wait", "--remove-orphans", "--timeout", "15")
    running = set(compose(mode, "ps", "--services", "--status", "running").split())
    assert running == {"rabbitmq", "mongo", "gateway", "api", *roles(mode)}
    for service in ("gateway", "api", *roles(mode)):
        assert rights(mode, service) == ("10001", "0" * 16, "reads")
    saga(mode, "stock", "set", "book", "5")
    assert saga(mode, "order", "place", "book=2", "--wait")["state"] == "COMPLETED"
    door = f"http://{compose(mode, 'port', 'api', '8080').strip()}"
    assert door.startswith("http://127.0.0.1:")
    assert published(mode) == {"api"}
    assert asyncio.run(placed_through(door, "book"))["state"] == "COMPLETED"
    declined = saga(mode, "order", "place", "book", "--fail", "payment:declined", "--wait")
    assert (declined["state"], declined["reason"]) == ("REJECTED", "payment_declined")
    assert saga(mode, "order", "place", "book", "--fail", "inventory:crash", "--wait")["state"] == "COMPLETED"
    assert restarts(mode, "inventory") == 1
    assert saga(mode, "audit") == {"mode": mode, "ok": True, "open": 0, "findings": []}
    compose(mode, "down", "--volumes", "--remove-orphans", "--timeout", "15")
