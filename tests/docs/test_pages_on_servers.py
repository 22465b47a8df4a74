"""Runs the commands of each page that need servers, in their order, against a mode on real servers.

What a page leaves to the reader is done here: `saga up` for the mode of a command, `saga api` for the URL of an HTTP API, and the
id of the last placed order in place of `ID`. Timeouts are shorter than the defaults, and storms smaller than on the page.
"""

import asyncio
import json
import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from bootstrap.modes import Mode, database_name, roles, topology
from broker.rabbitmq.transport import RabbitTransport
from broker.topology import Topology
from observer.recorder import NAME as OBSERVER
from observer.recorder import with_observer
from ops.dead_letters import with_api
from tests.support import servers
from tests.support.cli import SAGA, eventually, starting
from tests.support.page_commands import AN_ID, Command, commands_of, filled, pages, run_program

pytestmark = [pytest.mark.real, pytest.mark.timeout(400)]

EXAMPLE = "docs/how-to/use-the-loop.md"
#: Seconds that one command may take: the longest follows an order until its compensation is dead-lettered.
LIMIT_S = 120
#: Orders of a storm, whatever the page says.
STORM_ORDERS = "200"
#: The URL at which pages show the HTTP API.
API_URL = "http://127.0.0.1:8080"
#: Shorter timeouts than the defaults.
SHORT = {"SAGA_DEADLINE_S": "12", "SAGA_AUTHORIZE_TIMEOUT_S": "3", "SAGA_POLL_INTERVAL_S": "0.5", "SAGA_GATEWAY_TIMEOUT_S": "0.3"}


class Reader:
    """Types the commands of one page. Starts a mode or an HTTP API when a command needs it; `stack` ends them."""

    def __init__(self, env: dict[str, str], logs: Path, stack: ExitStack) -> None:
        self.env = env
        self.order_id = AN_ID
        self._logs = logs
        self._stack = stack
        self._api_url: str | None = None
        self._up: set[str] = set()

    def type(self, command: Command) -> None:
        """Run one command and check its exit code. Remembers what `export` sets and the order that was placed."""
        if command.words[0] == "export":
            self.env |= dict(word.split("=", 1) for word in command.words[1:])
        elif command.saga[:1] == ("api",):
            self._serve(self._mode_of(command))
        elif command.needs_servers and not command.long_running:
            self._run(command)

    def _run(self, command: Command) -> None:
        mode = self._mode_of(command)
        self._start(mode)
        letter = self._dead_letter(mode) if "LETTER" in command.words else AN_ID
        own = {"ID": self.order_id, "LETTER": letter, API_URL: self._api_url or API_URL}
        words = filled(command.saga, **own)
        if "--orders" in words:
            words[words.index("--orders") + 1] = STORM_ORDERS
        done = self._saga(*words, env=command.env)
        assert done.returncode == command.exit_code, f"{command.where}: exit code {done.returncode}: {done.stdout}{done.stderr}"
        if words[:2] == ["order", "place"]:
            placed = re.match(r"[0-9a-f-]{36}", done.stdout)
            assert placed, f"{command.where}: printed no order id: {done.stdout}"
            self.order_id = placed[0]

    def _mode_of(self, command: Command) -> str:
        for flag in ("-m", "--mode"):
            if flag in command.words:
                return command.words[command.words.index(flag) + 1]
        return (self.env | command.env).get("SAGA_MODE", Mode.ORCHESTRATOR)

    def _dead_letter(self, mode: str) -> str:
        """The id of a dead letter of the order that was placed last."""
        letters = json.loads(self._saga("dlq", "list", "--mode", mode, "--json").stdout)["dead_letters"]
        return str(next(letter["id"] for letter in letters if letter["order_id"] == self.order_id))

    def _saga(self, *words: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*SAGA, *words], env=self.env | (env or {}), capture_output=True, text=True, timeout=LIMIT_S, check=False
        )

    def _start(self, mode: str) -> None:
        """Start a mode that is not up yet, with 50 units of the pages' article in stock."""
        if mode in self._up:
            return
        self._up.add(mode)
        running = self._stack.enter_context(starting(Mode(mode), self.env, self._logs / f"{mode}.log"))
        running.until_ready()
        running.saga("reset", "--yes")
        running.saga("stock", "set", "sku-001", "50")

    def _serve(self, mode: str) -> None:
        """Start the HTTP API of a mode, on a free port."""
        self._start(mode)
        port, log = servers.free_port(), self._logs / "api.log"
        with log.open("wb") as out:
            words = [*SAGA, "api", "--mode", mode, "--port", str(port)]
            process = subprocess.Popen(words, stdout=out, stderr=out, env=self.env)
        self._stack.callback(end, process)
        eventually(lambda: process.poll() is not None or '"listening"' in log.read_text(), "saga api to listen")
        assert process.poll() is None, log.read_text()
        self._api_url = f"http://127.0.0.1:{port}"


def end(process: "subprocess.Popen[bytes]") -> None:
    """End a process, at once if it takes more than 20 s."""
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(20)


@pytest.fixture
def env(rabbit_url: str, mongo_url: str, tmp_path: Path) -> dict[str, str]:
    variables = {
        "SAGA_BROKER_URL": rabbit_url,
        "SAGA_STORE_URL": mongo_url,
        "SAGA_GATEWAY_URL": f"http://127.0.0.1:{servers.free_port()}",
        "SAGA_GATEWAY_BOOKS": str(tmp_path / "books.db"),
        "COLUMNS": "110",
    }
    return {name: value for name, value in os.environ.items() if name != "SAGA_MODE"} | SHORT | variables


@contextmanager
def deleted_afterwards(rabbit_url: str, mongo_url: str, topologies: list[Topology], databases: list[str]) -> Iterator[None]:
    """Delete the topologies and databases after the block."""

    async def remove() -> None:
        transport = RabbitTransport(rabbit_url, "tests")
        await transport.open()
        for one in topologies:
            await transport.delete(one)
        await transport.close()

    try:
        yield
    finally:
        asyncio.run(remove())
        for database in databases:
            servers.drop(mongo_url, database)


@pytest.mark.parametrize("page", [page for page in pages() if any(command.needs_servers for command in commands_of(page))])
def test_commands_of_a_page_run_on_real_servers(
    page: str, env: dict[str, str], rabbit_url: str, mongo_url: str, tmp_path: Path
) -> None:
    topologies = [with_api(with_observer(topology(mode))) for mode in Mode]
    databases = [database_name(mode, worker) for mode in Mode for worker in (*roles(mode), OBSERVER, "api")]
    logs = tmp_path / "logs"
    logs.mkdir()
    with deleted_afterwards(rabbit_url, mongo_url, topologies, databases), ExitStack() as stack:
        reader = Reader(env, logs, stack)
        for command in commands_of(page):
            reader.type(command)


def test_example_service_does_the_same_on_real_servers(
    rabbit_url: str, mongo_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SAGA_BROKER_URL", rabbit_url)
    monkeypatch.setenv("SAGA_STORE_URL", mongo_url)
    names = run_program(EXAMPLE)
    in_memory = capsys.readouterr().out
    databases = [f"example_{role.worker}" for role in names["roles"]]
    with deleted_afterwards(rabbit_url, mongo_url, [names["topology"]], databases):
        run_program(EXAMPLE, "needs servers", names)
    assert capsys.readouterr().out == in_memory
