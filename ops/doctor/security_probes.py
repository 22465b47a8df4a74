"""Every forbidden act, tried as everybody who might: on the broker, in the database, at the door.

What is forbidden is what `ops.permissions` does not grant. Beside it each account does one thing that it may (a
control): a refusal proves nothing about rights if the account cannot do anything at all. Nothing that is tried does harm if it is
allowed after all, and what could do harm is tried only where the harmless act that takes the same right was refused.
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

#: The second part of a routing key that no message has.
UNKNOWN_TYPE = "SecurityProbe"
UNKNOWN_USER = "nobody"
#: Seconds that the door may take to answer.
API_TIMEOUT_S = 10.0

Probe = Callable[[], Awaitable[bool]]


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """One act. `allowed` None: there is no telling, `why` says the reason. `control`: it should be allowed."""

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
    """Try everything, in both modes; the door only if its URL is given.

    Raises FileNotFoundError when somebody's secrets are missing; TransportUnavailable, StoreUnavailable or ApiUnreachable when a
    server is."""
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
    """Somebody who guesses a well-known user and password."""
    user, _, password = login.partition(":")
    url = str(credentials.broker_url.with_user(user).with_password(password))
    return await _outcome(user, "broker", "log in with a well-known password", partial(broker_probes.accepts_login, url))


# --- the broker ---------------------------------------------------------------------------------------------------------------


async def _probe_broker(credentials: Credentials, account: Account) -> AsyncIterator[ProbeResult]:
    try:
        async with broker_probes.permission_probe(credentials.url_for(account, BROKER_URL), f"{account.name} probe") as probe:
            for control, what, act in _broker_acts(account, probe):
                yield await _outcome(account.name, "broker", what, act, control=control)
            for spec in _foreign_queues(account):
                async for result in _probe_foreign_queue(account, probe, spec):
                    yield result
    except BrokerRefused as error:
        yield ProbeResult(account.name, "broker", "log in", False, str(error), control=True)


def _broker_acts(account: Account, probe: broker_probes.RabbitPermissionProbe) -> Iterator[tuple[bool, str, Probe]]:
    """(is it a control, what it is, how to do it) for one account."""
    mode, worker = account.mode, account.worker
    (other_mode,) = set(Mode) - {mode}
    yield False, f"publish an event of {other_mode}", partial(probe.publish, events_exchange(other_mode), f"order.{UNKNOWN_TYPE}")
    yield False, f"send a command of {other_mode}", partial(probe.publish, commands_exchange(other_mode), f"order.{UNKNOWN_TYPE}")
    if worker == OPERATOR:
        yield True, "hear events", probe.declare_private
        return
    queue = queue_of(mode, worker)
    own = next(spec for topology in topologies(mode) for spec in declarations.queues(topology) if spec.name == queue)
    yield False, "declare or delete its own queue", partial(probe.declare, queue, own.arguments)
    yield False, "declare a private queue", probe.declare_private
    yield False, "have its queue hear all events", partial(probe.bind, queue, events_exchange(mode), "#")
    yield False, "have its queue hear all commands", partial(probe.bind, queue, commands_exchange(mode), "#")
    for service in SERVICES:
        key = f"{service}.{UNKNOWN_TYPE}"
        yield service == worker, f"publish an event of {service}", partial(probe.publish, events_exchange(mode), key)
        yield False, f"send a command to {service}", partial(probe.publish, commands_exchange(mode), key)
        if service != worker:
            target = queue_of(mode, service)
            dead = dead_queue(target)
            yield False, f"publish straight to {target}", partial(probe.publish, "", target)
            yield False, f"put into {target} as if it came back", partial(probe.publish, retry_exchange(mode), target)
            yield False, f"put into {target} for later", partial(probe.publish, delay_queue(mode, 0), target)
            yield False, f"add to {dead}", partial(probe.publish, retry_exchange(mode), dead)
    for command in sorted(
        {*commands_sent_by(mode, API), *commands_sent_by(mode, COORDINATOR)} - {*commands_sent_by(mode, worker)}
    ):
        yield False, f"send {command}", partial(probe.publish, commands_exchange(mode), command)
    if worker in SERVICES:
        own_key = f"{worker}.{UNKNOWN_TYPE}"
        yield False, "publish under another's name", partial(probe.publish, events_exchange(mode), own_key, user=UNKNOWN_USER)


async def _probe_foreign_queue(
    account: Account, probe: broker_probes.RabbitPermissionProbe, spec: QueueSpec
) -> AsyncIterator[ProbeResult]:
    """Emptying a queue takes the right to consume it. Where that was allowed, it is not tried."""
    consume_result = await _outcome(account.name, "broker", f"consume {spec.name}", partial(probe.consume, spec.name))
    yield consume_result
    if consume_result.allowed is False:
        yield await _outcome(account.name, "broker", f"purge {spec.name}", partial(probe.purge, spec.name))
    declare = partial(probe.declare, spec.name, spec.arguments)
    yield await _outcome(account.name, "broker", f"declare or delete {spec.name}", declare)


def _foreign_queues(account: Account) -> list[QueueSpec]:
    """The work queues and dead letters that are not the account's, of both modes; for the operator those of the other mode."""
    specs = [spec for mode in Mode for topology in topologies(mode) for spec in declarations.queues(topology)]
    if account.worker == OPERATOR:
        return [spec for spec in specs if not spec.name.startswith(f"{account.mode}.")]
    own_mode = [spec for spec in specs if spec.name.startswith(f"{account.mode}.") and not re.search(account.read, spec.name)]
    return [*{spec.name: spec for spec in own_mode}.values(), *(spec for spec in specs if _same_worker_other_mode(account, spec))]


def _same_worker_other_mode(account: Account, spec: QueueSpec) -> bool:
    """Whether it is the queue of the same worker in the other mode."""
    mode, _, worker = spec.name.partition(".")
    return mode != account.mode and worker == account.worker


# --- the database -------------------------------------------------------------------------------------------------------------


def _probe_database(credentials: Credentials, account: Account) -> Iterator[ProbeResult]:
    with store_probes.permission_probe(credentials.url_for(account, STORE_URL)) as probe:
        for control, what, act in _database_acts(account, probe):
            try:
                yield ProbeResult(account.name, "database", what, act(), control=control)
            except StoreUnavailable:
                raise
            except StoreError as error:
                yield ProbeResult(account.name, "database", what, None, str(error), control=control)


def _database_acts(account: Account, probe: store_probes.MongoPermissionProbe) -> Iterator[tuple[bool, str, Callable[[], bool]]]:
    own = account.databases[0]
    yield True, f"read {own}", partial(probe.read, own)
    yield True, f"write {own}", partial(probe.write, own)
    all_databases = {database_name(each.mode, each.worker) for mode in Mode for each in accounts(mode) if each.worker != OPERATOR}
    for name in sorted(all_databases - set(account.databases)):
        yield False, f"read {name}", partial(probe.read, name)
        yield False, f"write {name}", partial(probe.write, name)
        yield False, f"write {name} by a pipeline", partial(probe.write_through_aggregation, own, name)
    yield False, "list the databases", probe.list_databases
    yield False, "read the users", probe.read_users
    yield False, "make a user", probe.make_user
    yield False, "give itself more rights", partial(probe.promote, account.name, AUTH_DATABASE)


# --- the door -----------------------------------------------------------------------------------------------------------------

#: (method, path, body) of what nobody may do over HTTP: anything but placing, looking, withdrawing.
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
                raise ApiUnreachable(f"the door at {url} does not answer: {error}") from error

        look = partial(succeeds, "GET", "/orders", b"")
        yield await _outcome("a customer", "door", "look at the orders", look, control=True)
        for method, path, body in FORBIDDEN_REQUESTS:
            what = f"{method} {path} with {len(body):,} bytes"
            yield await _outcome("a customer", "door", what, partial(succeeds, method, path, body))


async def _outcome(who: str, where: str, what: str, act: Probe, *, control: bool = False) -> ProbeResult:
    try:
        return ProbeResult(who, where, what, await act(), control=control)
    except TransportUnavailable:
        raise
    except TransportError as error:
        return ProbeResult(who, where, what, None, str(error), control=control)
