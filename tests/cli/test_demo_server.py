"""`saga demo --serve`: the dashboard starts quickly and shuts down on a signal."""

import json
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.support.cli import SAGA, eventually
from tests.support.servers import free_port

#: Seconds from the command to an answer, and from a signal to the end.
USABLE_S, ENDS_S = 10.0, 6.0


@contextmanager
def serving(*options: str) -> Iterator[tuple[str, "subprocess.Popen[str]"]]:
    """The dashboard's URL, as it is printed, and the process, which is killed at the end."""
    command = [*SAGA, "demo", "--serve", "--port", "0", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout
    try:
        line = process.stdout.readline()
        assert "http://" in line, line + process.stdout.read()
        yield line.split()[4].rstrip("/"), process
    finally:
        process.kill()
        process.wait(ENDS_S)
        process.stdout.close()


def call_api(url: str, body: object = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json", "X-Saga": "page"}
    with urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=5) as reply:  # noqa: S310 - a URL of this test
        return json.loads(reply.read())


def test_dashboard_starts_quickly_and_runs_orders_in_both_lanes() -> None:
    began = time.monotonic()
    before = time.time()
    with serving("--pace", "0.05") as (url, _):
        with urllib.request.urlopen(url + "/", timeout=5) as page:  # noqa: S310 - a URL of this test
            assert page.status == 200
        assert len(call_api(url + "/watch/lanes")["lanes"]) == 2
        assert time.monotonic() - began < USABLE_S
        order = {"lines": [{"sku": "book", "quantity": 1}], "customer": "Ada", "failures": []}
        placed = call_api(url + "/watch/orders", order)["orders"]

        def shown() -> list[Any]:
            return [order for one in placed for order in call_api(f"{url}/watch/orders?mode={one['mode']}")["orders"]]

        eventually(lambda: [order["state"] for order in shown()] == ["COMPLETED"] * 2, "both orders to complete")
        for order in shown():
            assert before - 1 < order["began_at"] <= order["moved_at"] < time.time() + 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_dashboard_shuts_down_on_a_signal_with_an_open_event_stream(number: signal.Signals) -> None:
    with serving() as (url, process):
        with urllib.request.urlopen(url + "/watch/events", timeout=5) as stream:  # noqa: S310 - a URL of this test
            assert stream.readline().startswith(b"retry")
            call_api(url + "/watch/orders", {"lines": [{"sku": "book", "quantity": 1}], "count": 50})
            process.send_signal(number)
            assert process.wait(ENDS_S) == 0
            assert stream.read().endswith(b"\n\n")
        assert process.stdout
        assert process.stdout.read() == ""


def test_port_in_use_is_reported_with_a_remedy() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ended = subprocess.run(
            [*SAGA, "demo", "--serve", "--port", port], capture_output=True, text=True, timeout=20, check=False
        )
    assert ended.returncode == 1
    assert ended.stdout == ""
    why = f"the dashboard cannot be served on 127.0.0.1:{port}: Address already in use"
    assert ended.stderr.splitlines() == [f"saga: {why}. Choose another --port, or 0 for a free one."]


def test_options_of_a_printed_run_are_refused_with_serve() -> None:
    command = [*SAGA, "demo", "--serve", "--json", "--port", str(free_port())]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert ended.returncode == 2
    assert "--serve" in ended.stderr
