"""Tells a server that is not running from a port that another program holds."""

import asyncio

from yarl import URL

from ops.doctor.check import CheckResult

#: URL scheme -> the default port.
PORTS = {"amqp": 5672, "amqps": 5671, "mongodb": 27017, "http": 80, "https": 443}
#: Seconds a port may take to accept a connection.
CONNECT_S = 2.0


async def diagnose_missing(what: str, why: str, url: str, step: str) -> CheckResult:
    """The result for a server `what` that does not answer at `url`. `step`: what to do when nothing listens there."""
    listening = [address for address in addresses_in(url) if await _listens(*address)]
    if not listening:
        return CheckResult(False, why, step, server_missing=True)
    host, port = listening[0]
    taken = f"port {port} of {host} is held by a program that does not answer as a {what}"
    step = f"Find it with `ss -ltnp` on {host}: stop it, restart it if it is a {what} that hangs, or set another port in the URL."
    return CheckResult(False, f"{taken} ({why})", step, server_missing=True)


def addresses_in(url: str) -> list[tuple[str, int]]:
    """Host and port of each server in the URL. A database URL may name several, separated by commas."""
    scheme, _, rest = url.partition("://")
    servers = [URL(f"//{server}") for server in rest.partition("/")[0].rpartition("@")[2].split(",")]
    return [(server.host, server.port or PORTS[scheme]) for server in servers if server.host and scheme in PORTS]


async def _listens(host: str, port: int) -> bool:
    try:
        async with asyncio.timeout(CONNECT_S):
            _, writer = await asyncio.open_connection(host, port)
    except (OSError, ValueError, TimeoutError):  # ValueError: not a valid host name
        return False
    writer.close()
    return True
