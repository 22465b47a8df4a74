"""The container stack in each mode: orders through its API, failures, killed workers, permissions.

Needs a Docker engine with compose, and images (from a registry or local); the names can be overridden by
RABBITMQ_IMAGE, MONGO_IMAGE, PYTHON_IMAGE. The modes follow each other on one stack, as `make stack-up` changes them.
"""

import asyncio
import json
import os
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from api.sample_orders import sample_order
from bootstrap.modes import Mode, roles
from cli import http_orders
from cli.docs.generate import ROOT
from services.vocabulary import Line
from tests.support import prerequisites, servers

pytestmark = [pytest.mark.real, pytest.mark.timeout(600)]

ENV = os.environ | {
    "COMPOSE_PROJECT_NAME": f"saga-test-{os.getpid()}",
    "SAGA_IMAGE": "saga:test",
    "API_PORT": "0",
    "BOTH_PORT": "0",
}
#: The least number of permission probes on broker, database and API.
PROBES = 1_000


def output_of(words: list[str], mode: Mode, *, ok: bool = True) -> str:
    """The output of a command that is run in the folder of compose.yaml. `ok`: whether it must succeed or fail."""
    result = subprocess.run(words, cwd=ROOT, env=ENV | {"MODE": mode}, capture_output=True, text=True, timeout=300, check=False)
    assert (result.returncode == 0) is ok, (
        f"{' '.join(words)}: {result.returncode} {result.stdout[-1000:]} {result.stderr[-3000:]}"
    )
    return result.stdout


def compose(mode: Mode, *words: str, ok: bool = True) -> str:
    return output_of(["docker", "compose", *words], mode, ok=ok)


def saga(mode: Mode, *words: str) -> Any:
    return json.loads(compose(mode, "run", "--rm", "-T", "saga", *words, "--json"))


def probed(mode: Mode, *, ok: bool = True) -> Any:
    """The report of `saga doctor --security`. `ok`: whether it must succeed or fail."""
    words = ("doctor", "--security", "/secrets", "--api", "http://api:8080", "--json")
    return json.loads(compose(mode, "run", "--rm", "-T", "security", *words, ok=ok))


def restarts(mode: Mode, service: str) -> int:
    """How often the engine has restarted a service's container."""
    container = compose(mode, "ps", "--quiet", service).strip()
    return int(output_of(["docker", "inspect", "--format", "{{.RestartCount}}", container], mode))


def hardening_of(mode: Mode, service: str) -> tuple[str, str, str]:
    """The user id of a service's process, its effective capabilities, and whether it can write to the folder of its code."""
    look = "id -u; grep CapEff /proc/self/status | cut -f2; touch /app/x 2>/dev/null && echo writes || echo reads"
    user, capabilities, files = compose(mode, "exec", "-T", service, "sh", "-c", look).split()
    return user, capabilities, files


def published(mode: Mode) -> set[str]:
    """The services with a port on this machine."""
    services = [json.loads(line) for line in compose(mode, "ps", "--format", "json").splitlines()]
    return {service["Service"] for service in services if any(port["PublishedPort"] for port in service["Publishers"] or ())}


def api_url_of(mode: Mode) -> str:
    """The URL of the HTTP API from outside the stack."""
    return f"http://{compose(mode, 'port', 'api', '8080').strip()}"


def placed(mode: Mode, *failures: str) -> tuple[str | None, str | None]:
    """State and reason of an order for one book, placed through the API and followed to its end."""
    end = asyncio.run(
        http_orders.place(api_url_of(mode), sample_order([Line(sku="book", quantity=1)]), list(failures), follow_for_s=60.0)
    )
    return end["state"], end["reason"]


def audit_at_rest(mode: Mode) -> Any:
    """The audit once no order is open, or after 60 s."""
    deadline = time.monotonic() + 60
    while (found := saga(mode, "audit"))["open"] and time.monotonic() < deadline:
        time.sleep(1)
    return found


@pytest.fixture(scope="module")
def engine() -> Iterator[None]:
    """An engine that has, or can get, what the stack needs. Whatever came up in a test goes down after all of them."""
    try:
        servers.engine_answers()
        servers.found("docker")
    except servers.NoServer as reason:
        prerequisites.ENGINE.missing(str(reason))
    yield
    output_of(["make", "stack-down"], Mode.ORCHESTRATOR)


@pytest.fixture(scope="module", params=list(Mode), ids=str)
def mode(request: pytest.FixtureRequest, engine: None) -> Mode:
    """A mode whose stack is up, with books in stock."""
    mode: Mode = request.param
    output_of(["make", "stack-up", f"MODE={mode}"], mode)
    saga(mode, "stock", "set", "book", "50")
    return mode


def test_workers_of_the_mode_run_and_only_the_api_is_published(mode: Mode) -> None:
    running = set(compose(mode, "ps", "--services", "--status", "running").split())
    assert running == {"rabbitmq", "mongo", "gateway", "api", "observer", *roles(mode)}
    assert published(mode) == {"api"}
    assert api_url_of(mode).startswith("http://127.0.0.1:")


def test_processes_have_no_capabilities_and_a_read_only_file_system(mode: Mode) -> None:
    for service in ("gateway", "api", "observer", *roles(mode)):
        assert hardening_of(mode, service) == ("10001", "0" * 16, "reads")


def test_container_mounts_only_the_secrets_of_its_own_worker(mode: Mode) -> None:
    for service in ("order", "payment", "api"):
        assert compose(mode, "exec", "-T", service, "ls", "/run/secrets").split() == ["saga_broker_url", "saga_store_url"]
        url = compose(mode, "exec", "-T", service, "cat", "/run/secrets/saga_broker_url")
        assert url.startswith(f"amqp://{mode}.{service}:")


def test_orders_through_the_api_end_as_their_failures_require(mode: Mode) -> None:
    assert placed(mode) == ("COMPLETED", None)
    assert placed(mode, "inventory:out_of_stock") == ("REJECTED", "out_of_stock")
    assert placed(mode, "payment:declined") == ("REJECTED", "payment_declined")
    assert placed(mode, "delivery:undeliverable") == ("REJECTED", "undeliverable")
    assert audit_at_rest(mode) == {"mode": mode, "ok": True, "open": 0, "findings": []}


def test_api_serves_the_dashboard_with_the_observers_records(mode: Mode) -> None:
    assert placed(mode, "payment:declined") == ("REJECTED", "payment_declined")
    with urlopen(f"{api_url_of(mode)}/", timeout=10) as page:  # noqa: S310 - the API of this stack
        assert b"<html" in page.read()
    deadline = time.monotonic() + 30
    told: list[tuple[str, str | None]] = []
    while ("REJECTED", "payment_declined") not in told and time.monotonic() < deadline:
        with urlopen(f"{api_url_of(mode)}/watch/orders?mode={mode}&limit=1", timeout=10) as answer:  # noqa: S310
            told = [(order["state"], order["reason"]) for order in json.load(answer)["orders"]]
    assert told == [("REJECTED", "payment_declined")]


def test_killed_worker_is_restarted_and_no_order_is_lost(mode: Mode) -> None:
    before = restarts(mode, "inventory"), restarts(mode, "payment")
    # Kills every process of the container, this shell included, except the first, which only waits for the worker.
    subprocess.run(
        ["docker", "compose", "exec", "-T", "payment", "sh", "-c", "kill -9 -1"],
        cwd=ROOT,
        env=ENV | {"MODE": mode},
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert placed(mode) == ("COMPLETED", None)
    assert placed(mode, "inventory:crash") == ("COMPLETED", None)
    assert (restarts(mode, "inventory"), restarts(mode, "payment")) == (before[0] + 1, before[1] + 1)
    assert audit_at_rest(mode) == {"mode": mode, "ok": True, "open": 0, "findings": []}


def test_three_replicas_of_a_worker_share_its_work(mode: Mode) -> None:
    compose(mode, "up", "--wait", "--no-recreate", "--scale", "inventory=3")
    assert len(compose(mode, "ps", "--quiet", "--status", "running", "inventory").split()) == 3
    storm = saga(mode, "storm", "--orders", "50", "--in-flight", "20")
    assert storm["completed"] == 50


def test_forbidden_acts_are_refused_and_a_granted_one_is_found(mode: Mode) -> None:
    found = probed(mode)
    assert (found["ok"], found["unexpectedly_allowed"]) == (True, 0)
    assert found["probes"] >= PROBES
    assert {it["where"] for it in found["tried"]} == {"broker", "database", "api"}
    grant = ["rabbitmqctl", "set_topic_permissions", "-p", "/", f"{mode}.delivery", f"{mode}.events", ".*", "^$"]
    compose(mode, "exec", "-T", "rabbitmq", *grant)
    found = probed(mode, ok=False)
    allowed = {(it["who"], it["what"]) for it in found["tried"] if not it["ok"]}
    assert allowed == {(f"{mode}.delivery", f"publish an event of {service}") for service in ("order", "inventory", "payment")}
    compose(mode, "exec", "-T", "rabbitmq", *grant[:-2], r"^delivery\.", "^$")


def test_one_dashboard_places_an_order_in_both_modes(engine: None) -> None:
    output_of(["make", "stack-both"], Mode.ORCHESTRATOR)
    for mode in Mode:
        saga(mode, "stock", "set", "book", "50")
    url = f"http://{compose(Mode.ORCHESTRATOR, '--profile', 'both', 'port', 'choreography-api', '8080').strip()}"
    order = {"lines": [{"sku": "book", "quantity": 1}], "failures": ["delivery:undeliverable"]}
    headers = {"Content-Type": "application/json", "X-Saga": "page"}
    with urlopen(Request(f"{url}/watch/orders", json.dumps(order).encode(), headers), timeout=30) as answer:  # noqa: S310
        placed_in = json.load(answer)
    (order_id,) = {one["order_id"] for one in placed_in["orders"]}
    assert ([one["mode"] for one in placed_in["orders"]], placed_in["not_taken"]) == (list(map(str, Mode)), [])
    for mode in Mode:
        told: Any = {}
        deadline = time.monotonic() + 30
        while told.get("state") != "REJECTED" and time.monotonic() < deadline:
            with suppress(HTTPError), urlopen(f"{url}/watch/orders/{mode}/{order_id}", timeout=10) as answer:  # noqa: S310
                told = json.load(answer)
        assert (told["mode"], told["reason"], told["undone"] != []) == (mode, "undeliverable", True)
        assert audit_at_rest(mode) == {"mode": mode, "ok": True, "open": 0, "findings": []}
    output_of(["make", "stack-up"], Mode.ORCHESTRATOR)
    running = set(compose(Mode.ORCHESTRATOR, "--profile", "*", "ps", "--services", "--status", "running").split())
    assert running == {"rabbitmq", "mongo", "gateway", "api", "observer", *roles(Mode.ORCHESTRATOR)}


def test_commands_of_the_readme_print_the_results_it_names(engine: None) -> None:
    page = (ROOT / "docs/how-to/run-in-containers.md").read_text()
    (commands,) = re.findall(r"## One mode\n.*?```text\n(.*?)```", page, re.DOTALL)
    result = output_of(["bash", "-c", f"set -e\n{commands}"], Mode.ORCHESTRATOR)
    assert "COMPLETED" in result
    assert "payment_declined" in result
    assert "0 unexpectedly allowed" in result
