"""Real processes, killed with SIGKILL between each two steps of the loop, on a real RabbitMQ and a MongoDB-wire server.

The worker that dies is a process of its own; after its death another takes its place, and the order must end
as if nothing had happened. `kill -9` is not power loss: what was written but not synced survives it.
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
from tests.support.system import Servers, all_dead_letters, on_real_parts

pytestmark = pytest.mark.real

#: Who dies with what in hand, how the order is made to go that way, and how it must end.
DEATHS = (
    ("inventory", "ReserveStock", (), "COMPLETED"),
    ("payment", "GatewayAnswered", (), "COMPLETED"),
    ("payment", "VoidPayment", ("delivery:undeliverable",), "REJECTED undeliverable"),
)
#: VoidPayment publishes nothing (the gateway's answer does), so it never comes between a publish and its removal.
CASES = [
    pytest.param(point, *death, id=f"{point}, {death[1]}")
    for death in DEATHS
    for point in CrashPoint
    if (death[1], point) != ("VoidPayment", CrashPoint.BEFORE_REMOVAL)
]


@pytest.mark.parametrize(("point", "worker", "handling", "failures", "end"), CASES)
def test_a_worker_killed_at_a_point_costs_nothing(
    point: CrashPoint, worker: str, handling: str, failures: tuple[str, ...], end: str, mode: Mode, real: Servers, prefix: str
) -> None:
    told = {"mode": mode, "worker": worker, "prefix": prefix, "point": point, "handling": handling, "servers": asdict(real)}

    async def play(system: System) -> None:
        await system.stop(worker)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.support.programs.crash_worker", json.dumps(told), stdout=asyncio.subprocess.PIPE
        )
        try:
            assert process.stdout is not None
            async with asyncio.timeout(15):
                while (line := await process.stdout.readline()) != b"armed\n":
                    assert line, "it died before it was armed"
                run = JourneyRun(system)
                order_id = await run.place({"book": 2}, *failures)
                assert await process.wait() == -signal.SIGKILL, "nobody died"
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

    on_real_parts(mode, real.backend(prefix), play)
