"""A server that does not answer: nothing is there, or its port is taken by something else."""

import asyncio

from yarl import URL

from ops.doctor.check import CheckResult

#: Where each listens when its URL does not say.
PORTS = {"amqp": 5672, "amqps": 5671, "mongodb": 27017, "http": 80, "https": 443}
#: Seconds that a port has to take a connection.
CONNECT_S = 2.0


async def diagnose_missing(what: str, why: str, url: str, step: str) -> CheckResult:
    """The finding for a server `what` that does not answer `url` this URL. `step`: what to do when nothing is there."""
    listening = [address for address in addresses_in(url) if await _listens(*address)]
    if not listening:
        return CheckResult(False, why, step, server_missing=True)
    host, port = listening[0]
    taken = f"port {port} of {host} is taken by something that does not answer as a {what}"
    look = f"See what holds port {port} (`ss -ltnp` there): end it, or restart it if it is a {what} that hangs"
    return CheckResult(False, f"{taken} ({why})", f"{look}; or set another port in the URL.", server_missing=True)


def addresses_in(url: str) -> list[tuple[str, int]]:
    """Host and port of each server in the URL: of a database there may be several, with commas between."""
    scheme, _, rest = url.partition("://")
    servers = [URL(f"//{server}") for server in rest.partition("/")[0].rpartition("@")[2].split(",")]
    return [(server.host, server.port or PORTS[scheme]) for server in servers if server.host and scheme in PORTS]


async def _listens(host: str, port: int) -> bool:
    try:
        async with asyncio.timeout(CONNECT_S):
            _, writer = await asyncio.open_connection(host, port)
    except (OSError, ValueError, TimeoutError):  # ValueError: what no name can be
        return False
    writer.close()
    return True
