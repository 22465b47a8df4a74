"""Checks of the payment gateway and of this machine: memory, a Docker engine."""

import aiohttp
from yarl import URL

from bootstrap.backend import GatewayUnreachable
from ops.doctor.check import Finding
from ops.doctor.port_probe import missing
from ops.doctor.targets import Patient

#: kB, as /proc/meminfo counts, in the GB that are shown.
GB = 1024 * 1024
#: GB that one mode takes with its servers (five workers 0.4, RabbitMQ 0.4, MongoDB 0.4), and what must be left when it has them.
TAKES_GB, LEFT_GB = 1.2, 0.25
#: Seconds a Docker engine may take to answer a ping.
PING_S = 3.0


async def gateway(patient: Patient) -> Finding:
    at = patient.parts.gateway_url
    try:
        URL(at)
    except ValueError as error:
        return Finding(False, f"the payment gateway's URL cannot be used: {error}", "Correct SAGA_GATEWAY_URL.")
    try:
        await patient.gateway()
    except GatewayUnreachable as error:
        step = f"Start it (`saga up --mode {patient.mode}` does, or `saga worker gateway`), or set SAGA_GATEWAY_URL."
        return await missing("payment gateway", str(error), at, step)
    return Finding(True, "it answers")


async def gateway_faults(patient: Patient) -> Finding:
    """Failures injected into payments act at the gateway, those of the services at their workers: both must be willing."""
    honoured = bool((await patient.gateway()).get("faults"))
    announced = await patient.announced()
    if not announced:
        return Finding(None, f"no worker has started yet; the payment gateway has faults {_word(honoured)}")
    differing = [name for name, record in announced.items() if bool(record.body.get("faults")) is not honoured]
    if differing:
        why = f"the payment gateway has faults {_word(honoured)}, and {', '.join(differing)} {_word(not honoured)}"
        return Finding(False, why, "Restart the one or the other, both with --faults or both with --no-faults.")
    return Finding(True, f"{_word(honoured)}, as with the workers")


def _word(honoured: bool) -> str:
    return "enabled" if honoured else "disabled"


async def memory(patient: Patient) -> Finding:
    try:
        lines = patient.meminfo.read_text().splitlines()
    except OSError:
        return Finding(None, f"{patient.meminfo} is not there: this is no Linux")
    free = [int(line.split()[1]) / GB for line in lines if line.startswith("MemAvailable:")]
    if not free:
        return Finding(None, f"{patient.meminfo} does not say what is available")
    why, wanted = f"{free[0]:.1f} GB are free", f"one mode takes {TAKES_GB} with its servers"
    if free[0] < LEFT_GB:
        return Finding(False, f"{why}; {wanted}", "End what takes the memory, or use a larger machine.")
    if free[0] < TAKES_GB:
        return Finding(True, why, f"Before you start a mode here, free some: {wanted}.")
    return Finding(True, why)


async def docker(patient: Patient) -> Finding:
    """No failure: a mode runs without one. Only the container stack needs it, and containers in tests."""
    if await _pings(patient.docker_host):
        return Finding(True, "an engine answers")
    return Finding(
        True, f"no engine answers at {patient.docker_host}", "For the container stack, start Docker or set DOCKER_HOST."
    )


async def _pings(docker_host: str) -> bool:
    timeout = aiohttp.ClientTimeout(total=PING_S)
    try:
        where = URL(docker_host)
        connector = aiohttp.UnixConnector(where.path) if where.scheme == "unix" else None
        url = "http://docker/_ping" if connector else f"http://{where.host}:{where.port or 2375}/_ping"
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session, session.get(url) as response:
            return response.status == 200
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
        return False
