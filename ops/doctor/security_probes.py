"""Tries every forbidden operation as every account: on the broker, in the database and at the HTTP API.

Forbidden is what `ops.permissions` does not grant. Each account also does something that it may (a control): a refusal proves
nothing about permissions if the account can do nothing at all. No probe does harm if it is allowed by mistake. An operation that
could do harm is tried only after a harmless one that needs the same permission was refused.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from functools import partial

import aiohttp
from yarl import URL

from api.http_client import ApiUnreachable
from api.messages import NAME as API
from bootstrap.modes import Mode, database_name
from broker import declarations
from broker.declarations import QueueSpec
from broker.rabbitmq import permission_probes as broker_probes
from broker.topology import commands_exchange, dead_queue, delay_queue, events_exchange, queue_of, retry_exchange
from broker.transport import BrokerRefused, TransportError, TransportUnavailable
from ops.credentials import AUTH_DATABASE, BROKER_URL, STORE_URL, Credentials
from ops.permissions import OPERATOR, Account, accounts, commands_sent_by, topologies
from orchestrator.coordinator import NAME as COORDINATOR
from services.message_types import SERVICES
from store.mongo import permission_probes as store_probes
from store.protocol import StoreError, StoreUnavailable

#: The second part of a routing key that belongs to no message.
UNKNOWN_TYPE = "SecurityProbe"
UNKNOWN_USER = "unknown"
#: Seconds that the HTTP API may take to answer.
API_TIMEOUT_S = 10.0

Probe = Callable[[], Awaitable[bool]]


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """One operation. `allowed` is None when the outcome is unknown, for the reason `why`. `control`: it should be allowed."""

    who: str
    where: str
    what: str
    allowed: bool | None
    why: str = ""
    control: bool = False

    @property
    def ok(self) -> bool:
        return self.allowed is self.control


async def probe_permissions(credentials: Credentials, api_url: str | None) -> AsyncIterator[ProbeResult]:
    """Try every operation in both modes; at the HTTP API only if `api_url` is given.

    Raises FileNotFoundError when an account's secrets are missing, and TransportUnavailable, StoreUnavailable or ApiUnreachable
    when a server does not answer."""
    for account in credentials.accounts():
        credentials.password_for(account)
    for well_known in ("guest:guest", "saga:saga"):
        yield await _try_well_known_password(credentials, well_known)
    for mode in Mode:
        for account in accounts(mode):
            async for result in _probe_broker(credentials, account):
                yield result
            for result in await asyncio.to_thread(lambda: list(_probe_database(credentials, account))):  # noqa: B023 - awaited at once
                yield result
    if api_url:
        async for result in _probe_api(api_url):
            yield result


async def _try_well_known_password(credentials: Credentials, login: str) -> ProbeResult:
    """Log in with a default user and password, `login` as `user:password`."""
    user, _, password = login.partition(":")
    url = str(credentials.broker_url.with_user(user).with_password(password))
    return await _outcome(user, "broker", "log in with a well-known password", partial(broker_probes.accepts_login, url))


# --- the broker ---------------------------------------------------------------------------------------------------------------


async def _probe_broker(credentials: Credentials, account: Account) -> AsyncIterator[ProbeResult]:
    try:
        async with broker_probes.permission_probe(credentials.url_for(account, BROKER_URL), f"{account.name} probe") as probe:
            for control, what, attempt in _broker_attempts(account, probe):
                yield await _outcome(account.name, "broker", what, attempt, control=control)
            for spec in _foreign_queues(account):
                async for result in _probe_foreign_queue(account, probe, spec):
                    yield result
    except BrokerRefused as error:
        yield ProbeResult(account.name, "broker", "log in", False, str(error), control=True)


def _broker_attempts(account: Account, probe: broker_probes.RabbitPermissionProbe) -> Iterator[tuple[bool, str, Probe]]:
    """The operations of one account: whether it is a control, its description, and the probe."""
    mode, worker = account.mode, account.worker
    (other_mode,) = set(Mode) - {mode}
    yield False, f"publish an event of {other_mode}", partial(probe.publish, events_exchange(other_mode), f"order.{UNKNOWN_TYPE}")
    yield False, f"send a command of {other_mode}", partial(probe.publish, commands_exchange(other_mode), f"order.{UNKNOWN_TYPE}")
    if worker == OPERATOR:
        yield True, "declare a private queue", probe.declare_private
        return
    queue = queue_of(mode, worker)
    own = next(spec for topology in topologies(mode) for spec in declarations.queues(topology) if spec.name == queue)
    yield False, "declare or delete its own queue", partial(probe.declare, queue, own.arguments)
    yield False, "declare a private queue", probe.declare_private
    yield False, "bind its queue to all events", partial(probe.bind, queue, events_exchange(mode), "#")
    yield False, "bind its queue to all commands", partial(probe.bind, queue, commands_exchange(mode), "#")
    for service in SERVICES:
        key = f"{service}.{UNKNOWN_TYPE}"
        yield service == worker, f"publish an event of {service}", partial(probe.publish, events_exchange(mode), key)
        yield False, f"send a command to {service}", partial(probe.publish, commands_exchange(mode), key)
        if service != worker:
            target = queue_of(mode, service)
            dead = dead_queue(target)
            yield False, f"publish to {target} through the default exchange", partial(probe.publish, "", target)
            yield False, f"publish to {target} through the retry exchange", partial(probe.publish, retry_exchange(mode), target)
            yield False, f"publish to {target} through a delay queue", partial(probe.publish, delay_queue(mode, 0), target)
            yield False, f"publish to {dead}", partial(probe.publish, retry_exchange(mode), dead)
    for command in sorted(
        {*commands_sent_by(mode, API), *commands_sent_by(mode, COORDINATOR)} - {*commands_sent_by(mode, worker)}
    ):
        yield False, f"send {command}", partial(probe.publish, commands_exchange(mode), command)
    if worker in SERVICES:
        publish = partial(probe.publish, events_exchange(mode), f"{worker}.{UNKNOWN_TYPE}", user=UNKNOWN_USER)
        yield False, "publish under another user's name", publish


async def _probe_foreign_queue(
    account: Account, probe: broker_probes.RabbitPermissionProbe, spec: QueueSpec
) -> AsyncIterator[ProbeResult]:
    """Purging needs the same permission as consuming, so it is tried only where consuming was refused."""
    consume_result = await _outcome(account.name, "broker", f"consume {spec.name}", partial(probe.consume, spec.name))
    yield consume_result
    if consume_result.allowed is False:
        yield await _outcome(account.name, "broker", f"purge {spec.name}", partial(probe.purge, spec.name))
    declare = partial(probe.declare, spec.name, spec.arguments)
    yield await _outcome(account.name, "broker", f"declare or delete {spec.name}", declare)


def _foreign_queues(account: Account) -> list[QueueSpec]:
    """The work and dead-letter queues of both modes that are not the account's; for the operator those of the other mode."""
    specs = [spec for mode in Mode for topology in topologies(mode) for spec in declarations.queues(topology)]
    if account.worker == OPERATOR:
        return [spec for spec in specs if not spec.name.startswith(f"{account.mode}.")]
    own_mode = [spec for spec in specs if spec.name.startswith(f"{account.mode}.") and not re.search(account.read, spec.name)]
    return [*{spec.name: spec for spec in own_mode}.values(), *(spec for spec in specs if _same_worker_other_mode(account, spec))]


def _same_worker_other_mode(account: Account, spec: QueueSpec) -> bool:
    """Whether `spec` is the queue of the same worker in the other mode."""
    mode, _, worker = spec.name.partition(".")
    return mode != account.mode and worker == account.worker


# --- the database -------------------------------------------------------------------------------------------------------------


def _probe_database(credentials: Credentials, account: Account) -> Iterator[ProbeResult]:
    with store_probes.permission_probe(credentials.url_for(account, STORE_URL)) as probe:
        for control, what, attempt in _database_attempts(account, probe):
            try:
                yield ProbeResult(account.name, "database", what, attempt(), control=control)
            except StoreUnavailable:
                raise
            except StoreError as error:
                yield ProbeResult(account.name, "database", what, None, str(error), control=control)


def _database_attempts(
    account: Account, probe: store_probes.MongoPermissionProbe
) -> Iterator[tuple[bool, str, Callable[[], bool]]]:
    own = account.databases[0]
    yield True, f"read {own}", partial(probe.read, own)
    yield True, f"write {own}", partial(probe.write, own)
    all_databases = {database_name(each.mode, each.worker) for mode in Mode for each in accounts(mode) if each.worker != OPERATOR}
    for name in sorted(all_databases - set(account.databases)):
        yield False, f"read {name}", partial(probe.read, name)
        yield False, f"write {name}", partial(probe.write, name)
        yield False, f"write {name} by an aggregation", partial(probe.write_through_aggregation, own, name)
    yield False, "list the databases", probe.list_databases
    yield False, "read the users", probe.read_users
    yield False, "create a user", probe.make_user
    yield False, "grant itself more permissions", partial(probe.promote, account.name, AUTH_DATABASE)


# --- the HTTP API -------------------------------------------------------------------------------------------------------------

#: (method, path, body) of requests that the HTTP API must refuse: all but placing, reading and withdrawing an order.
FORBIDDEN_REQUESTS = (
    ("PUT", "/orders/x", b"{}"),
    ("PATCH", "/orders/x", b"{}"),
    ("DELETE", "/orders", b""),
    ("POST", "/orders/x/events", b"{}"),
    ("POST", "/events", b"{}"),
    ("DELETE", "/events", b""),
    ("POST", "/commands", b"{}"),
    ("POST", "/orders/x/complete", b"{}"),
    ("GET", "/orders/..%2f..%2fetc%2fpasswd", b""),
    ("POST", "/orders", b'{"type": "order.CompleteOrder"}'),
    ("POST", "/orders", b"x" * 2_000_000),
)


async def _probe_api(url: str) -> AsyncIterator[ProbeResult]:
    timeout = aiohttp.ClientTimeout(total=API_TIMEOUT_S)
    async with aiohttp.ClientSession(timeout=timeout) as session:

        async def succeeds(method: str, path: str, body: bytes) -> bool:
            headers = {"Idempotency-Key": "security-probe", "Content-Type": "application/json"} if body else {}
            target = URL(url.rstrip("/") + path, encoded=True)
            try:
                async with session.request(method, target, data=body or None, headers=headers) as response:
                    return response.ok
            except (aiohttp.ClientError, TimeoutError) as error:
                raise ApiUnreachable(f"the HTTP API at {url} does not answer: {error}") from error

        read = partial(succeeds, "GET", "/orders", b"")
        yield await _outcome("a customer", "api", "read the orders", read, control=True)
        for method, path, body in FORBIDDEN_REQUESTS:
            what = f"{method} {path} with {len(body):,} bytes"
            yield await _outcome("a customer", "api", what, partial(succeeds, method, path, body))


async def _outcome(who: str, where: str, what: str, attempt: Probe, *, control: bool = False) -> ProbeResult:
    try:
        return ProbeResult(who, where, what, await attempt(), control=control)
    except TransportUnavailable:
        raise
    except TransportError as error:
        return ProbeResult(who, where, what, None, str(error), control=control)
