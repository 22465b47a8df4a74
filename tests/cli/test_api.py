"""`saga api` on real servers, with a running mode."""

import asyncio
import json
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from api.http_client import HttpOrderClient
from api.messages import NAME
from api.orders import api_topology
from bootstrap.modes import Mode, database_name
from broker.rabbitmq.transport import RabbitTransport
from broker.transport import Outgoing, Receipt, Wire
from services.vocabulary import OrderDetails
from tests.support import servers
from tests.support.api.asgi_client import AN_ORDER
from tests.support.cli import BOTH, NOWHERE, SAGA, UNKNOWN_ID, RunningMode, eventually, invoke, up
from tests.support.servers import free_port

TIMEOUT_S = 10
#: Customers of an API that is killed, and how often it is started.
CUSTOMERS, STARTS = 300, 4


@pytest.fixture
def api_removed(removed: None, rabbit_url: str, mongo_url: str) -> Iterator[None]:
    """Delete the APIs' queues and databases after the test, before those of the modes."""
    yield

    async def remove() -> None:
        transport = RabbitTransport(rabbit_url, "tests")
        await transport.open()
        for mode in Mode:
            await transport.delete(api_topology(mode))
        await transport.close()

    asyncio.run(remove())
    for mode in Mode:
        servers.drop(mongo_url, database_name(mode, NAME))


@contextmanager
def serving(
    mode: Mode, env: dict[str, str], log: Path, url: str | None = None
) -> Iterator[tuple[str, "subprocess.Popen[bytes]"]]:
    """Run `saga api` until it is ready; gives its URL and its process, which is killed at the end."""
    url = url or f"http://127.0.0.1:{free_port()}"
    with log.open("ab") as out:
        process = subprocess.Popen([*SAGA, "api", "-m", mode, "--port", url.rpartition(":")[2]], stdout=out, stderr=out, env=env)
    try:
        eventually(lambda: process.poll() is not None or call_api(url, "/health/ready")[0] == 200, "the API to be ready")
        assert process.poll() is None, log.read_text()
        yield url, process
    finally:
        process.kill()
        process.wait(TIMEOUT_S)


def call_api(url: str, path: str, body: object = None, method: str | None = None, key: str = "k") -> tuple[int, Any]:
    """Status and document of one request; status 0 when there is no answer."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"Idempotency-Key": key, "Content-Type": "application/json"}
    request = urllib.request.Request(url + path, data, headers, method=method)  # noqa: S310 - a URL of this test
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:  # noqa: S310
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)
    except OSError:
        return 0, None


def ended(url: str, order_id: str) -> bool:
    return call_api(url, f"/orders/{order_id}")[1]["state"] in ("COMPLETED", "REJECTED")


@pytest.mark.real
@BOTH
def test_dead_letters_of_the_api_are_listed_requeued_and_discarded(mode: Mode, env: dict[str, str], api_removed: None) -> None:
    def dlq(*words: str) -> Any:
        result = invoke("dlq", *words, "--mode", mode, "--json", **env)
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    async def dead_letter(count: int) -> None:
        transport = RabbitTransport(env["SAGA_BROKER_URL"], "tests")
        await transport.open()
        declared_topology = api_topology(mode)
        await transport.declare(declared_topology)
        letters = [Outgoing(declared_topology.dead_address(NAME), Wire(b"{}")) for _ in range(count)]
        assert await transport.publish(letters) == [Receipt.CONFIRMED] * count
        await transport.close()

    assert dlq("list", "--worker", "api") == {"dead_letters": []}
    asyncio.run(dead_letter(1))
    assert [letter["worker"] for letter in dlq("list")["dead_letters"]] == ["api"]
    assert [letter["worker"] for letter in dlq("requeue", "--all")["requeued"]] == ["api"]
    assert dlq("list") == {"dead_letters": []}
    asyncio.run(dead_letter(1))
    assert [letter["worker"] for letter in dlq("discard", "--all", "--yes")["discarded"]] == ["api"]
    assert dlq("list") == {"dead_letters": []}


@pytest.mark.real
@BOTH
def test_restarted_api_keeps_its_orders_until_a_reset(mode: Mode, env: dict[str, str], tmp_path: Path, api_removed: None) -> None:
    with up(mode, env, tmp_path / "log") as running:
        running.saga("stock", "set", "book", "5")
        with serving(mode, env, tmp_path / "api") as (url, process):
            status, taken = call_api(url, "/orders", AN_ORDER)
            assert status == 202
            process.kill()
        with serving(mode, env, tmp_path / "api") as (url, process):
            assert call_api(url, "/orders", AN_ORDER) == (202, taken)
            eventually(lambda: ended(url, taken["order_id"]), "the order to end")
            shown = running.saga("order", "show", taken["order_id"])
            assert (shown["state"], shown["held"]["stock"]) == ("COMPLETED", {"book": 2})
            assert_stream_resumes(url, taken["order_id"], running)
            assert_commands_work_through_the_api(url, running)
            process.send_signal(signal.SIGTERM)
            assert process.wait(TIMEOUT_S) == 0
        running.saga("reset", "--yes")
        with serving(mode, env, tmp_path / "api") as (url, _):
            assert call_api(url, "/orders") == (200, {"orders": []})


def following(url: str, headers: dict[str, str] | None = None) -> Any:
    """An open stream of all events."""
    request = urllib.request.Request(f"{url}/events", headers=headers or {})  # noqa: S310
    return urllib.request.urlopen(request, timeout=TIMEOUT_S)  # noqa: S310


def assert_stream_resumes(url: str, order_id: str, running: RunningMode) -> None:
    """A stream that resumes after an event starts with the next one, and includes the events of a new order."""
    with following(url, {"Last-Event-ID": "4"}) as stream:
        assert stream.headers["Content-Type"].startswith("text/event-stream")
        numbers: list[int] = []
        orders: set[str] = set()
        other = None
        while len(numbers) < 3:
            line = stream.readline().decode()
            if line.startswith("data: "):
                event = json.loads(line.removeprefix("data: "))
                numbers.append(event["number"])
                orders.add(event["order_id"])
                other = other or running.saga("order", "place", "book", "--wait")["order_id"]
    assert numbers == [5, 6, 7]
    assert orders == {order_id, other}


def assert_commands_work_through_the_api(url: str, running: RunningMode) -> None:
    """Commands through the API return the same as commands that read the databases."""
    placed = running.saga("order", "place", "book", "--fail", "delivery:undeliverable", "--wait", "--via", url)
    assert (placed["state"], placed["reason"]) == ("REJECTED", "undeliverable")
    stored = running.saga("order", "show", placed["order_id"])
    shown = running.saga("order", "show", placed["order_id"], "--via", url)
    assert {name: shown[name] for name in placed} == {name: stored[name] for name in placed} == placed
    assert running.saga("order", "withdraw", placed["order_id"], "--wait", "--via", url) == placed
    assert running.saga("order", "list", "--via", url) == running.saga("order", "list")
    assert running.saga("order", "list", "--state", "REJECTED", "--via", url)["orders"] == [placed]
    running.saga("order", "show", UNKNOWN_ID, "--via", url, code=1)
    report = running.saga(
        "storm", "--orders", "300", "--in-flight", "60", "--fail", "payment:declined=20%", "--via", url, "--timeout", "60"
    )
    assert (report["ended"], report["unfinished"], report["audit"]["ok"]) == (300, 0, True)
    assert report["rejected"] == {"payment_declined": report["injected"]["payment:declined"]}


@pytest.mark.real
def test_repeatedly_killed_api_neither_loses_nor_doubles_an_order(env: dict[str, str], tmp_path: Path, api_removed: None) -> None:
    """Customers place orders at a steady rate, each with one key, and retry until they get a 202."""

    async def place_all(url: str) -> list[str]:
        async with HttpOrderClient(url, retry_for_s=60) as client:
            details = OrderDetails.model_validate_json(json.dumps(AN_ORDER))
            requests = []
            for _ in range(CUSTOMERS):
                requests.append(asyncio.create_task(client.place(details, ["inventory:out_of_stock"])))
                await asyncio.sleep(0.01)
            return await asyncio.gather(*requests)

    mode, url = Mode.CHOREOGRAPHY, f"http://127.0.0.1:{free_port()}"
    with up(mode, env, tmp_path / "log") as running, ThreadPoolExecutor() as pool:
        stream = pool.submit(asyncio.run, place_all(url))
        for _ in range(STARTS - 1):
            with serving(mode, env, tmp_path / "api", url):
                time.sleep(0.5)  # how long it runs while requests arrive
        with serving(mode, env, tmp_path / "api", url):
            taken = stream.result()
            eventually(lambda: all(ended(url, order_id) for order_id in taken), "every order to end")
        orders = [order["order_id"] for order in running.saga("order", "list", "--limit", "1000")["orders"]]
        assert len(set(taken)) == CUSTOMERS
        assert sorted(orders) == sorted(taken)


@pytest.mark.real
def test_api_shuts_down_in_time_with_an_open_event_stream(env: dict[str, str], tmp_path: Path, api_removed: None) -> None:
    with serving(Mode.CHOREOGRAPHY, env, tmp_path / "api") as (url, process), following(url) as stream:
        assert stream.readline() == b"retry: 1000\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(3) == 0
    assert '"event": "stopped"' in (tmp_path / "api").read_text()


def test_api_without_servers_is_exit_code_4_without_a_traceback() -> None:
    result = subprocess.run([*SAGA, "api", "--port", "0"], capture_output=True, text=True, timeout=60, env=NOWHERE, check=False)
    assert result.returncode == 4
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    "words", [["order", "list"], ["order", "place", "book"], ["order", "show", UNKNOWN_ID], ["order", "withdraw", UNKNOWN_ID]]
)
def test_unreachable_api_is_a_missing_server(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cli.http_orders.RETRY_FOR_S", 0.1)
    result = invoke(*words, "--via", "http://127.0.0.1:9")
    assert result.exit_code == 4
    assert "http://127.0.0.1:9" in result.stderr


def test_invalid_api_url_is_a_usage_error() -> None:
    result = invoke("order", "list", "--via", "localhost:8080")
    assert result.exit_code == 2
    assert "is not the URL of an HTTP API" in result.stderr


def test_port_in_use_is_reported_with_its_address() -> None:
    port = free_port()
    with socket.create_server(("127.0.0.1", port)):
        result = subprocess.run(
            [*SAGA, "api", "--port", str(port)], capture_output=True, text=True, timeout=60, env=NOWHERE, check=False
        )
    assert result.returncode == 1
    assert f"cannot serve on 127.0.0.1:{port}" in result.stderr
