"""The API behaves as its OpenAPI document says: schemathesis derives valid and invalid requests from the document.

It runs as a command, because its pytest plugin does not support our pytest. The API and all workers of a mode run in memory,
behind a real socket.
"""

import asyncio
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn

from api.app import ApiApp
from api.event_stream import EventStreams
from api.request_limits import RequestLimits
from bootstrap.memory_backend import MemoryBackend
from bootstrap.modes import Mode
from lab.system import System, set_up_stock
from tests.support.api.http_api import running_api

#: Seconds that a stream of events lasts here: schemathesis reads each to its end.
STREAM_S = 0.02
#: Requests of each kind that schemathesis derives for each path.
EXAMPLES = 10
#: A check that does not apply: DELETE withdraws an order, which can still be read afterwards.
EXCLUDED_CHECK = "use_after_free"


@pytest.fixture
def api_url() -> Iterator[str]:
    """The URL of a running API."""
    listener = socket.create_server(("127.0.0.1", 0))
    servers: list[uvicorn.Server] = []
    thread = threading.Thread(target=lambda: asyncio.run(_serve(listener, servers)))
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        for server in servers:
            server.should_exit = True
        thread.join(30)


async def _serve(listener: socket.socket, servers: list[uvicorn.Server]) -> None:
    async with System(Mode.CHOREOGRAPHY, MemoryBackend(Mode.CHOREOGRAPHY)) as system:
        await set_up_stock(system.stores["inventory"], {"book": 1_000})
        async with running_api(system) as api:
            app = RequestLimits(ApiApp(api.orders, EventStreams(api.orders, stream_s=STREAM_S), pivot_first=True).application())
            servers.append(uvicorn.Server(uvicorn.Config(app, lifespan="off", log_config=None)))
            await servers[0].serve(sockets=[listener])


def test_schemathesis_finds_no_failure(api_url: str, tmp_path: Path) -> None:
    command = [str(Path(sys.executable).with_name("st")), "run", f"{api_url}/openapi.json", "--checks", "all"]
    command += [
        "--exclude-checks",
        EXCLUDED_CHECK,
        "--max-examples",
        str(EXAMPLES),
        "--seed",
        "1",
        "--generation-database",
        "none",
    ]
    env = os.environ | {"SCHEMATHESIS_HOOKS": "tests.support.api.schemathesis_hooks", "PYTHONPATH": str(Path.cwd())}
    result = subprocess.run(command, capture_output=True, text=True, timeout=110, env=env, cwd=tmp_path, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "8 selected / 8 total" in result.stdout
