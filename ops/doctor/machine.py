"""Checks of the payment gateway and of this machine: memory, a Docker engine. The checks of clocks are in database.py."""

import aiohttp
from yarl import URL

from bootstrap.backend import GatewayUnreachable
from ops.doctor.check import CheckResult
from ops.doctor.port_probe import diagnose_missing
from ops.doctor.targets import Targets

#: One GB in kB, the unit of /proc/meminfo.
GB = 1024 * 1024
#: GB that one mode takes with its servers (five workers 0.4, RabbitMQ 0.4, MongoDB 0.4).
MODE_NEEDS_GB = 1.2
#: Free GB below which the check fails.
RESERVE_GB = 0.25
#: Seconds a Docker engine may take to answer a ping.
PING_S = 3.0


async def gateway(targets: Targets) -> CheckResult:
    url = targets.backend.gateway_url
    try:
        URL(url)
    except ValueError as error:
        return CheckResult(False, f"the payment gateway's URL cannot be used: {error}", "Correct SAGA_GATEWAY_URL.")
    try:
        await targets.gateway()
    except GatewayUnreachable as error:
        step = f"Start it (`saga up --mode {targets.mode}` does, or `saga worker gateway`), or set SAGA_GATEWAY_URL."
        return await diagnose_missing("payment gateway", str(error), url, step)
    return CheckResult(True, "it answers")


async def gateway_faults(targets: Targets) -> CheckResult:
    """Whether gateway and workers agree on fault injection: the business faults of payments act at the gateway."""
    honoured = bool((await targets.gateway()).get("faults"))
    announcements = await targets.announcements()
    if not announcements:
        return CheckResult(None, f"no worker has started yet; the payment gateway has fault injection {_enabled_word(honoured)}")
    differing = [name for name, record in announcements.items() if bool(record.body.get("faults")) is not honoured]
    if differing:
        at_gateway, at_workers = _enabled_word(honoured), _enabled_word(not honoured)
        why = f"fault injection is {at_gateway} at the payment gateway and {at_workers} at {', '.join(differing)}"
        step = "Restart the gateway or these workers, so that all run with --faults or all with --no-faults."
        return CheckResult(False, why, step)
    return CheckResult(True, f"{_enabled_word(honoured)}, as at the workers")


def _enabled_word(honoured: bool) -> str:
    return "enabled" if honoured else "disabled"


async def memory(targets: Targets) -> CheckResult:
    try:
        lines = targets.meminfo.read_text().splitlines()
    except OSError:
        return CheckResult(None, f"{targets.meminfo} does not exist: this is not Linux")
    free = [int(line.split()[1]) / GB for line in lines if line.startswith("MemAvailable:")]
    if not free:
        return CheckResult(None, f"{targets.meminfo} does not report the available memory")
    why, wanted = f"{free[0]:.1f} GB are free", f"one mode takes {MODE_NEEDS_GB} GB with its servers"
    if free[0] < RESERVE_GB:
        return CheckResult(False, f"{why}; {wanted}", "Stop other programs, or use a machine with more memory.")
    if free[0] < MODE_NEEDS_GB:
        return CheckResult(True, why, f"Free some memory before you start a mode here: {wanted}.")
    return CheckResult(True, why)


async def docker(targets: Targets) -> CheckResult:
    """Reports a missing engine as a warning: only the container stack and tests that start containers need one."""
    if await _answers_ping(targets.docker_host):
        return CheckResult(True, "an engine answers")
    return CheckResult(
        True, f"no engine answers at {targets.docker_host}", "For the container stack, start Docker or set DOCKER_HOST."
    )


async def _answers_ping(docker_host: str) -> bool:
    timeout = aiohttp.ClientTimeout(total=PING_S)
    try:
        where = URL(docker_host)
        connector = aiohttp.UnixConnector(where.path) if where.scheme == "unix" else None
        url = "http://docker/_ping" if connector else f"http://{where.host}:{where.port or 2375}/_ping"
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session, session.get(url) as response:
            return response.status == 200
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
        return False
