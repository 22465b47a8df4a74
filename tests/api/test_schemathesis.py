"""What the door's OpenAPI says is what the door does: schemathesis makes requests from it, proper and improper.

By its own command, because its pytest plugin does not know our pytest yet. The door and all workers of a mode run in memory,
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
from tests.support.api.http_api import a_door

#: Seconds that a stream of events lasts here: schemathesis reads each to its end.
STREAM_S = 0.02
#: Requests of each kind that it makes up for each path.
EXAMPLES = 10
#: To withdraw an order is to DELETE it, and it is still told of afterwards.
NOT_MEANT = "use_after_free"


@pytest.fixture
def door_url() -> Iterator[str]:
    """The URL of a door at work."""
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
        async with a_door(system) as door:
            app = RequestLimits(ApiApp(door.orders, EventStreams(door.orders, stream_s=STREAM_S), pivot_first=True).application())
            servers.append(uvicorn.Server(uvicorn.Config(app, lifespan="off", log_config=None)))
            await servers[0].serve(sockets=[listener])


def test_schemathesis_finds_nothing(door_url: str, tmp_path: Path) -> None:
    command = [str(Path(sys.executable).with_name("st")), "run", f"{door_url}/openapi.json", "--checks", "all"]
    command += ["--exclude-checks", NOT_MEANT, "--max-examples", str(EXAMPLES), "--seed", "1", "--generation-database", "none"]
    env = os.environ | {"SCHEMATHESIS_HOOKS": "tests.support.api.schemathesis_hooks", "PYTHONPATH": str(Path.cwd())}
    said = subprocess.run(command, capture_output=True, text=True, timeout=110, env=env, cwd=tmp_path, check=False)
    assert said.returncode == 0, said.stdout + said.stderr
    assert "8 selected / 8 total" in said.stdout
