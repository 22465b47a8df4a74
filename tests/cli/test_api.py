"""`saga api` as a user runs it, on real parts, beside a running mode."""

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
from tests.support.cli import BOTH, NOBODY, NOWHERE, SAGA, Up, eventually, typed, up
from tests.support.servers import free_port

PATIENCE_S = 10
#: How many customers come to a door that is killed, and how often it is started.
CUSTOMERS, LIVES = 300, 4


@pytest.fixture
def door_removed(removed: None, rabbit_url: str, mongo_url: str) -> Iterator[None]:
    """The doors' queues and databases are gone after the test, before what they share with the modes is."""
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
    """`saga api`, ready; gives its URL and its process, which is killed at the end if it has not ended."""
    url = url or f"http://127.0.0.1:{free_port()}"
    with log.open("ab") as out:
        process = subprocess.Popen([*SAGA, "api", "-m", mode, "--port", url.rpartition(":")[2]], stdout=out, stderr=out, env=env)
    try:
        eventually(lambda: process.poll() is not None or asked(url, "/health/ready")[0] == 200, "the door to be ready")
        assert process.poll() is None, log.read_text()
        yield url, process
    finally:
        process.kill()
        process.wait(PATIENCE_S)


def asked(url: str, path: str, body: object = None, method: str | None = None, key: str = "k") -> tuple[int, Any]:
    """Status and document of one request; status 0 when nobody answers."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"Idempotency-Key": key, "Content-Type": "application/json"}
    request = urllib.request.Request(url + path, data, headers, method=method)  # noqa: S310 - our own URL
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as response:  # noqa: S310
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)
    except OSError:
        return 0, None


def ended(url: str, order_id: str) -> bool:
    return asked(url, f"/orders/{order_id}")[1]["state"] in ("COMPLETED", "REJECTED")


@pytest.mark.real
@BOTH
def test_the_dead_letters_of_a_door_are_listed_sent_back_and_thrown_away_like_any_other(
    mode: Mode, env: dict[str, str], door_removed: None
) -> None:
    def dlq(*words: str) -> Any:
        said = typed("dlq", *words, "--mode", mode, "--json", **env)
        assert said.exit_code == 0, said.output
        return json.loads(said.stdout)

    async def give_up(count: int) -> None:
        transport = RabbitTransport(env["SAGA_BROKER_URL"], "tests")
        await transport.open()
        declared_topology = api_topology(mode)
        await transport.declare(declared_topology)
        letters = [Outgoing(declared_topology.dead_address(NAME), Wire(b"{}")) for _ in range(count)]
        assert await transport.publish(letters) == [Receipt.CONFIRMED] * count
        await transport.close()

    assert dlq("list", "--worker", "door") == {"dead_letters": []}
    asyncio.run(give_up(1))
    assert [letter["worker"] for letter in dlq("list")["dead_letters"]] == ["door"]
    assert [letter["worker"] for letter in dlq("requeue", "--all")["requeued"]] == ["door"]
    assert dlq("list") == {"dead_letters": []}
    asyncio.run(give_up(1))
    assert [letter["worker"] for letter in dlq("discard", "--all", "--yes")["discarded"]] == ["door"]
    assert dlq("list") == {"dead_letters": []}


@pytest.mark.real
@BOTH
def test_orders_go_through_a_door_that_is_killed_and_started_again_and_are_forgotten_by_reset(
    mode: Mode, env: dict[str, str], tmp_path: Path, door_removed: None
) -> None:
    with up(mode, env, tmp_path / "log") as running:
        running.saga("stock", "set", "book", "5")
        with serving(mode, env, tmp_path / "door") as (url, process):
            status, taken = asked(url, "/orders", AN_ORDER)
            assert status == 202
            process.kill()
        with serving(mode, env, tmp_path / "door") as (url, process):
            assert asked(url, "/orders", AN_ORDER) == (202, taken)
            eventually(lambda: ended(url, taken["order_id"]), "the order to end")
            shown = running.saga("order", "show", taken["order_id"])
            assert (shown["state"], shown["held"]["stock"]) == ("COMPLETED", {"book": 2})
            assert_follows(url, taken["order_id"], running)
            assert_every_command_goes_through(url, running)
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE_S) == 0
        running.saga("reset", "--yes")
        with serving(mode, env, tmp_path / "door") as (url, _):
            assert asked(url, "/orders") == (200, {"orders": []})


def following(url: str, headers: dict[str, str] | None = None) -> Any:
    """A stream of all events, open."""
    request = urllib.request.Request(f"{url}/events", headers=headers or {})  # noqa: S310
    return urllib.request.urlopen(request, timeout=PATIENCE_S)  # noqa: S310


def assert_follows(url: str, order_id: str, running: Up) -> None:
    """A stream that goes on after an event begins with the next, and a new order's events come to it as well."""
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


def assert_every_command_goes_through(url: str, running: Up) -> None:
    """A customer who knows nothing but the door sees what those see who read the databases."""
    placed = running.saga("order", "place", "book", "--fail", "delivery:undeliverable", "--wait", "--via", url)
    assert (placed["state"], placed["reason"]) == ("REJECTED", "undeliverable")
    stored = running.saga("order", "show", placed["order_id"])
    shown = running.saga("order", "show", placed["order_id"], "--via", url)
    assert {name: shown[name] for name in placed} == {name: stored[name] for name in placed} == placed
    assert running.saga("order", "withdraw", placed["order_id"], "--wait", "--via", url) == placed
    assert running.saga("order", "list", "--via", url) == running.saga("order", "list")
    assert running.saga("order", "list", "--state", "REJECTED", "--via", url)["orders"] == [placed]
    running.saga("order", "show", NOBODY, "--via", url, code=1)
    report = running.saga(
        "storm", "--orders", "300", "--in-flight", "60", "--fail", "payment:declined=20%", "--via", url, "--timeout", "60"
    )
    assert (report["ended"], report["unfinished"], report["audit"]["ok"]) == (300, 0, True)
    assert report["rejected"] == {"payment_declined": report["injected"]["payment:declined"]}


@pytest.mark.real
def test_a_door_that_is_killed_again_and_again_loses_and_doubles_no_order(
    env: dict[str, str], tmp_path: Path, door_removed: None
) -> None:
    """Customers come in a steady stream, each with one key, and ask until they have their 202."""

    async def come(url: str) -> list[str]:
        async with HttpOrderClient(url, retry_for_s=60) as client:
            details = OrderDetails.model_validate_json(json.dumps(AN_ORDER))
            coming = []
            for _ in range(CUSTOMERS):
                coming.append(asyncio.create_task(client.place(details, ["inventory:out_of_stock"])))
                await asyncio.sleep(0.01)
            return await asyncio.gather(*coming)

    mode, url = Mode.CHOREOGRAPHY, f"http://127.0.0.1:{free_port()}"
    with up(mode, env, tmp_path / "log") as running, ThreadPoolExecutor() as pool:
        stream = pool.submit(asyncio.run, come(url))
        for _ in range(LIVES - 1):
            with serving(mode, env, tmp_path / "door", url):
                time.sleep(0.5)  # how long it lives, while they come
        with serving(mode, env, tmp_path / "door", url):
            taken = stream.result()
            eventually(lambda: all(ended(url, order_id) for order_id in taken), "every order to end")
        orders = [order["order_id"] for order in running.saga("order", "list", "--limit", "1000")["orders"]]
        assert len(set(taken)) == CUSTOMERS
        assert sorted(orders) == sorted(taken)


@pytest.mark.real
def test_a_door_ends_in_time_although_somebody_follows_it(env: dict[str, str], tmp_path: Path, door_removed: None) -> None:
    with serving(Mode.CHOREOGRAPHY, env, tmp_path / "door") as (url, process), following(url) as stream:
        assert stream.readline() == b"retry: 1000\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(3) == 0
    assert '"event": "stopped"' in (tmp_path / "door").read_text()


def test_without_servers_the_door_says_what_is_missing() -> None:
    said = subprocess.run([*SAGA, "api", "--port", "0"], capture_output=True, text=True, timeout=60, env=NOWHERE, check=False)
    assert said.returncode == 4
    assert "Traceback" not in said.stderr


@pytest.mark.parametrize(
    "words", [["order", "list"], ["order", "place", "book"], ["order", "show", NOBODY], ["order", "withdraw", NOBODY]]
)
def test_a_door_where_nobody_answers_is_a_missing_server(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cli.http_orders.RETRY_FOR_S", 0.1)
    said = typed(*words, "--via", "http://127.0.0.1:9")
    assert said.exit_code == 4
    assert "http://127.0.0.1:9" in said.stderr


def test_what_is_no_url_of_a_door_is_a_usage_error() -> None:
    said = typed("order", "list", "--via", "localhost:8080")
    assert said.exit_code == 2
    assert "no URL of a door" in said.stderr


def test_an_address_that_is_taken_is_said_in_a_sentence() -> None:
    port = free_port()
    with socket.create_server(("127.0.0.1", port)):
        said = subprocess.run(
            [*SAGA, "api", "--port", str(port)], capture_output=True, text=True, timeout=60, env=NOWHERE, check=False
        )
    assert said.returncode == 1
    assert f"cannot serve on 127.0.0.1:{port}" in said.stderr
