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

from api.http_client import DoorUnreachable
from api.messages import NAME as DOOR
from bootstrap.modes import Mode, database_of
from broker import declarations as furniture
from broker.declarations import QueueSpec
from broker.rabbitmq import permission_probes as broker_trespass
from broker.topology import aside_exchange, commands_exchange, dead_queue, events_exchange, later_queue, queue_of
from broker.transport import BrokerRefused, TransportError, TransportUnavailable
from ops.credentials import BROKER_URL, STORE_URL, USERS_DATABASE, Keyring
from ops.permissions import OPERATOR, Account, accounts, commands_of, topologies
from orchestrator.coordinator import NAME as COORDINATOR
from services.message_types import SERVICES
from store.mongo import permission_probes as store_trespass
from store.protocol import StoreError, StoreUnavailable

#: The second part of a routing key that no message has.
NO_MESSAGE = "SecurityProbe"
NOBODY = "nobody"
#: Seconds that the door may take to answer.
DOOR_PATIENCE_S = 10.0

Act = Callable[[], Awaitable[bool]]


@dataclass(frozen=True, slots=True)
class Tried:
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


async def examine(keyring: Keyring, door_url: str | None) -> AsyncIterator[Tried]:
    """Try everything, in both modes; the door only if its URL is given.

    Raises FileNotFoundError when somebody's secrets are missing; TransportUnavailable, StoreUnavailable or DoorUnreachable when a
    server is."""
    for account in keyring.accounts():
        keyring.password_of(account)
    for guessed in ("guest:guest", "saga:saga"):
        yield await _stranger(keyring, guessed)
    for mode in Mode:
        for account in accounts(mode):
            async for tried in _at_broker(keyring, account):
                yield tried
            for tried in await asyncio.to_thread(lambda: list(_in_database(keyring, account))):  # noqa: B023 - awaited at once
                yield tried
    if door_url:
        async for tried in _at_door(door_url):
            yield tried


async def _stranger(keyring: Keyring, credentials: str) -> Tried:
    """Somebody who guesses a well-known user and password."""
    user, _, password = credentials.partition(":")
    url = str(keyring.broker_url.with_user(user).with_password(password))
    return await _outcome(user, "broker", "log in with a well-known password", partial(broker_trespass.is_let_in, url))


# --- the broker ---------------------------------------------------------------------------------------------------------------


async def _at_broker(keyring: Keyring, account: Account) -> AsyncIterator[Tried]:
    try:
        async with broker_trespass.trespassing(keyring.url_of(account, BROKER_URL), f"{account.name} probe") as trespasser:
            for control, what, act in _broker_acts(account, trespasser):
                yield await _outcome(account.name, "broker", what, act, control=control)
            for spec in _foreign_queues(account):
                async for tried in _on_foreign_queue(account, trespasser, spec):
                    yield tried
    except BrokerRefused as error:
        yield Tried(account.name, "broker", "log in", False, str(error), control=True)


def _broker_acts(account: Account, it: broker_trespass.Trespasser) -> Iterator[tuple[bool, str, Act]]:
    """(is it a control, what it is, how to do it) for one account."""
    mode, worker = account.mode, account.worker
    (other_mode,) = set(Mode) - {mode}
    yield False, f"publish an event of {other_mode}", partial(it.publish, events_exchange(other_mode), f"order.{NO_MESSAGE}")
    yield False, f"send a command of {other_mode}", partial(it.publish, commands_exchange(other_mode), f"order.{NO_MESSAGE}")
    if worker == OPERATOR:
        yield True, "hear events", it.declare_private
        return
    queue = queue_of(mode, worker)
    own = next(spec for topology in topologies(mode) for spec in furniture.queues(topology) if spec.name == queue)
    yield False, "declare or delete its own queue", partial(it.declare, queue, own.arguments)
    yield False, "declare a private queue", it.declare_private
    yield False, "have its queue hear all events", partial(it.bind, queue, events_exchange(mode), "#")
    yield False, "have its queue hear all commands", partial(it.bind, queue, commands_exchange(mode), "#")
    for service in SERVICES:
        key = f"{service}.{NO_MESSAGE}"
        yield service == worker, f"publish an event of {service}", partial(it.publish, events_exchange(mode), key)
        yield False, f"send a command to {service}", partial(it.publish, commands_exchange(mode), key)
        if service != worker:
            target = queue_of(mode, service)
            dead = dead_queue(target)
            yield False, f"publish straight to {target}", partial(it.publish, "", target)
            yield False, f"put into {target} as if it came back", partial(it.publish, aside_exchange(mode), target)
            yield False, f"put into {target} for later", partial(it.publish, later_queue(mode, 0), target)
            yield False, f"add to {dead}", partial(it.publish, aside_exchange(mode), dead)
    for command in sorted({*commands_of(mode, DOOR), *commands_of(mode, COORDINATOR)} - {*commands_of(mode, worker)}):
        yield False, f"send {command}", partial(it.publish, commands_exchange(mode), command)
    if worker in SERVICES:
        own_key = f"{worker}.{NO_MESSAGE}"
        yield False, "publish under another's name", partial(it.publish, events_exchange(mode), own_key, user=NOBODY)


async def _on_foreign_queue(account: Account, it: broker_trespass.Trespasser, spec: QueueSpec) -> AsyncIterator[Tried]:
    """Emptying a queue takes the right to consume it. Where that was allowed, it is not tried."""
    consumed = await _outcome(account.name, "broker", f"consume {spec.name}", partial(it.consume, spec.name))
    yield consumed
    if consumed.allowed is False:
        yield await _outcome(account.name, "broker", f"purge {spec.name}", partial(it.purge, spec.name))
    declare = partial(it.declare, spec.name, spec.arguments)
    yield await _outcome(account.name, "broker", f"declare or delete {spec.name}", declare)


def _foreign_queues(account: Account) -> list[QueueSpec]:
    """The work queues and dead letters that are not the account's, of both modes; for the operator those of the other mode."""
    specs = [spec for mode in Mode for topology in topologies(mode) for spec in furniture.queues(topology)]
    if account.worker == OPERATOR:
        return [spec for spec in specs if not spec.name.startswith(f"{account.mode}.")]
    own_mode = [spec for spec in specs if spec.name.startswith(f"{account.mode}.") and not re.search(account.read, spec.name)]
    return [*{spec.name: spec for spec in own_mode}.values(), *(spec for spec in specs if _twin(account, spec))]


def _twin(account: Account, spec: QueueSpec) -> bool:
    """Whether it is the queue of the same worker in the other mode."""
    mode, _, worker = spec.name.partition(".")
    return mode != account.mode and worker == account.worker


# --- the database -------------------------------------------------------------------------------------------------------------


def _in_database(keyring: Keyring, account: Account) -> Iterator[Tried]:
    with store_trespass.trespassing(keyring.url_of(account, STORE_URL)) as it:
        for control, what, act in _database_acts(account, it):
            try:
                yield Tried(account.name, "database", what, act(), control=control)
            except StoreUnavailable:
                raise
            except StoreError as error:
                yield Tried(account.name, "database", what, None, str(error), control=control)


def _database_acts(account: Account, it: store_trespass.Trespasser) -> Iterator[tuple[bool, str, Callable[[], bool]]]:
    own = account.databases[0]
    yield True, f"read {own}", partial(it.read, own)
    yield True, f"write {own}", partial(it.write, own)
    everything = {database_of(each.mode, each.worker) for mode in Mode for each in accounts(mode) if each.worker != OPERATOR}
    for name in sorted(everything - set(account.databases)):
        yield False, f"read {name}", partial(it.read, name)
        yield False, f"write {name}", partial(it.write, name)
        yield False, f"write {name} by a pipeline", partial(it.write_through_aggregation, own, name)
    yield False, "list the databases", it.list_databases
    yield False, "read the users", it.read_users
    yield False, "make a user", it.make_user
    yield False, "give itself more rights", partial(it.promote, account.name, USERS_DATABASE)


# --- the door -----------------------------------------------------------------------------------------------------------------

#: (method, path, body) of what nobody may do over HTTP: anything but placing, looking, withdrawing.
AT_DOOR = (
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


async def _at_door(url: str) -> AsyncIterator[Tried]:
    timeout = aiohttp.ClientTimeout(total=DOOR_PATIENCE_S)
    async with aiohttp.ClientSession(timeout=timeout) as session:

        async def answered(method: str, path: str, body: bytes) -> bool:
            headers = {"Idempotency-Key": "security-probe", "Content-Type": "application/json"} if body else {}
            target = URL(url.rstrip("/") + path, encoded=True)
            try:
                async with session.request(method, target, data=body or None, headers=headers) as response:
                    return response.ok
            except (aiohttp.ClientError, TimeoutError) as error:
                raise DoorUnreachable(f"the door at {url} does not answer: {error}") from error

        look = partial(answered, "GET", "/orders", b"")
        yield await _outcome("a customer", "door", "look at the orders", look, control=True)
        for method, path, body in AT_DOOR:
            what = f"{method} {path} with {len(body):,} bytes"
            yield await _outcome("a customer", "door", what, partial(answered, method, path, body))


async def _outcome(who: str, where: str, what: str, act: Act, *, control: bool = False) -> Tried:
    try:
        return Tried(who, where, what, await act(), control=control)
    except TransportUnavailable:
        raise
    except TransportError as error:
        return Tried(who, where, what, None, str(error), control=control)
