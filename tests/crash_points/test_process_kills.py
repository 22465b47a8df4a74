"""Worker processes killed with SIGKILL between each two steps of the loop, on RabbitMQ and a MongoDB-wire server.

The killed worker is a process of its own; another worker is started afterwards, and the order must end as it would have without
the kill. SIGKILL is not power loss: what was written but not synced survives it.
"""

import asyncio
import json
import signal
import sys
from dataclasses import asdict

import pytest

from bootstrap.modes import Mode
from lab.journeys.run import JourneyRun
from lab.simulation.plan import CrashPoint
from lab.system import System
from tests.support.system import Servers, all_dead_letters, on_servers

pytestmark = pytest.mark.real

#: The killed worker, its command in progress, the injected failures of the order, and how the order must end.
KILLS = (
    ("inventory", "ReserveStock", (), "COMPLETED"),
    ("payment", "GatewayAnswered", (), "COMPLETED"),
    ("payment", "VoidPayment", ("delivery:undeliverable",), "REJECTED undeliverable"),
)
#: VoidPayment publishes nothing (GatewayAnswered does), so it never reaches the point between publish and removal.
CASES = [
    pytest.param(point, *kill, id=f"{point}, {kill[1]}")
    for kill in KILLS
    for point in CrashPoint
    if (kill[1], point) != ("VoidPayment", CrashPoint.BEFORE_REMOVAL)
]


@pytest.mark.parametrize(("point", "worker", "handling", "failures", "end"), CASES)
def test_a_worker_killed_at_a_point_loses_nothing(
    point: CrashPoint, worker: str, handling: str, failures: tuple[str, ...], end: str, mode: Mode, real: Servers, prefix: str
) -> None:
    options = {"mode": mode, "worker": worker, "prefix": prefix, "point": point, "handling": handling, "servers": asdict(real)}

    async def play(system: System) -> None:
        await system.stop(worker)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.support.programs.crash_worker", json.dumps(options), stdout=asyncio.subprocess.PIPE
        )
        try:
            assert process.stdout is not None
            async with asyncio.timeout(15):
                while (line := await process.stdout.readline()) != b"armed\n":
                    assert line, "the worker ended before it was armed"
                run = JourneyRun(system)
                order_id = await run.place({"book": 2}, *failures)
                assert await process.wait() == -signal.SIGKILL, "the worker was not killed"
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        await system.start(worker)
        await run.wait_for_end(order_id)
        result = await run.result()
        assert result.ends == {end: 1}
        assert result.audit.ok, result.audit.findings
        assert await all_dead_letters(system) == {}

    on_servers(mode, real.backend(prefix), play)
