"""Permissions on broker and database suffice for every message that is sent, and grant no more.

RabbitMQ's rule is applied here in Python: a regular expression for the exchange, and one for the routing key where there is one.
In tests/stack/ RabbitMQ itself applies it.
"""

import re
from itertools import product

import pytest

from api.messages import NAME as API
from bootstrap.modes import Mode, database_name, roles
from broker import declarations
from broker.message import Command, Event
from broker.topology import commands_exchange, delay_queue, dropped_queue, events_exchange, queue_of
from lab.journeys.catalogue import JOURNEYS
from lab.system import System
from observer.recorder import NAME as OBSERVER
from ops.permissions import OPERATOR, Account, accounts, topologies
from orchestrator.coordinator import NAME as COORDINATOR
from services.message_types import API_COMMANDS, SERVICES
from services.payment.messages import PaymentAuthorized
from tests.support.journey_checks import BUSY_JOURNEYS, played, subclasses
from tests.support.system import MODES, in_memory, published

COMMANDS = sorted(kind.type_name for kind in subclasses(Command))
EVENTS = sorted(kind.type_name for kind in subclasses(Event))
API_TYPES = {kind.type_name for kind in API_COMMANDS}


def account_of(mode: Mode, worker: str) -> Account:
    return next(account for account in accounts(mode) if account.worker == worker)


def may_publish(account: Account, exchange: str, key: str) -> bool:
    if not re.search(account.write, exchange or "amq.default"):  # RabbitMQ's name for the one that has none
        return False
    return exchange not in account.routing_keys or bool(re.search(account.routing_keys[exchange], key))


def workers_of(mode: Mode) -> list[Account]:
    """Every account but the operator's."""
    return [account for account in accounts(mode) if account.worker != OPERATOR]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", BUSY_JOURNEYS)
def test_every_sender_may_send_the_messages_that_it_sends(mode: Mode, name: str) -> None:
    async def play(system: System) -> None:
        seen = published(system)
        await played(JOURNEYS[name], system)
        assert seen
        for item in seen:
            # A retried or dead-lettered copy names its original sender; its routing key names the publishing worker's queue.
            republished = item.address.exchange not in (commands_exchange(mode), events_exchange(mode))
            worker = item.address.routing_key.split(".")[1] if republished else item.wire.app_id
            assert may_publish(account_of(mode, str(worker)), item.address.exchange, item.address.routing_key), item

    in_memory(mode, play)


@pytest.mark.parametrize("mode", MODES)
def test_a_worker_may_consume_only_its_own_queue(mode: Mode) -> None:
    queues = [spec.name for each in Mode for topology in topologies(each) for spec in declarations.queues(topology)]
    for account in workers_of(mode):
        queue = queue_of(mode, account.worker)
        own = [queue, dropped_queue(queue)] if account.worker == OBSERVER else [queue]
        assert [name for name in queues if re.search(account.read, name)] == own


@pytest.mark.parametrize("mode", MODES)
def test_no_worker_may_declare_bind_or_delete(mode: Mode) -> None:
    for account in workers_of(mode):
        for topology in topologies(mode):
            names = [*declarations.exchanges(topology), *(spec.name for spec in declarations.queues(topology)), "amq.gen-x", "x"]
            assert not [name for name in names if re.search(account.configure, name)]


def test_in_choreography_only_the_api_may_send_its_two_commands() -> None:
    exchange = commands_exchange(Mode.CHOREOGRAPHY)
    allowed = {
        (account.worker, command)
        for account, command in product(workers_of(Mode.CHOREOGRAPHY), COMMANDS)
        if may_publish(account, exchange, command)
    }
    assert allowed == {(API, command) for command in API_TYPES}


def test_in_orchestrator_only_coordinator_and_api_may_send_commands() -> None:
    exchange = commands_exchange(Mode.ORCHESTRATOR)
    sends = {
        account.worker: {command for command in COMMANDS if may_publish(account, exchange, command)}
        for account in workers_of(Mode.ORCHESTRATOR)
    }
    accepted = {kind.type_name for role in roles(Mode.ORCHESTRATOR).values() for kind in role.accepts} & set(COMMANDS)
    silent = {worker: set() for worker in (*SERVICES, OBSERVER)}
    assert sends == silent | {API: API_TYPES, COORDINATOR: accepted - API_TYPES}


@pytest.mark.parametrize("mode", MODES)
def test_the_observer_may_publish_nothing(mode: Mode) -> None:
    observer = account_of(mode, OBSERVER)
    for topology in topologies(mode):
        assert not [name for name in ("", *declarations.exchanges(topology)) if may_publish(observer, name, "order.PlaceOrder")]


def test_in_orchestrator_no_participants_queue_is_bound_to_events() -> None:
    """No worker may bind or declare a queue, so it stays so."""
    (workers, _) = topologies(Mode.ORCHESTRATOR)
    bound = {spec.name for spec in declarations.queues(workers) for exchange, _ in spec.bindings if exchange.endswith(".events")}
    assert bound == {queue_of(Mode.ORCHESTRATOR, listener) for listener in (COORDINATOR, OBSERVER)}


@pytest.mark.parametrize("mode", MODES)
def test_a_worker_may_publish_only_its_own_events(mode: Mode) -> None:
    exchange = events_exchange(mode)
    for account in workers_of(mode):
        mine = {event for event in EVENTS if event.split(".")[0] == account.worker} if account.worker in SERVICES else set()
        assert {event for event in EVENTS if may_publish(account, exchange, event)} == mine


@pytest.mark.parametrize("mode", MODES)
def test_a_worker_may_delay_messages_only_for_its_own_queue(mode: Mode) -> None:
    queues = [queue_of(mode, worker) for worker in (*roles(mode), API, OBSERVER)]
    for account in workers_of(mode):
        own = [] if account.worker == OBSERVER else [queue_of(mode, account.worker)]
        assert [key for key in queues if may_publish(account, delay_queue(mode, 0), key)] == own


@pytest.mark.parametrize("key", ["x.payment.PaymentAuthorized", "paymentx.PaymentAuthorized", "inventory.payment.x", ""])
def test_a_routing_key_that_resembles_its_own_is_refused(key: str) -> None:
    payment = account_of(Mode.CHOREOGRAPHY, "payment")
    exchange = events_exchange(Mode.CHOREOGRAPHY)
    assert may_publish(payment, exchange, PaymentAuthorized.type_name)
    assert not may_publish(payment, exchange, key)


@pytest.mark.parametrize("mode", MODES)
def test_no_account_may_publish_to_a_queue_or_the_other_mode(mode: Mode) -> None:
    (other,) = set(Mode) - {mode}
    for account in accounts(mode):
        for exchange in ("", "amq.direct", "amq.topic", events_exchange(other), commands_exchange(other)):
            assert not may_publish(account, exchange, queue_of(mode, "order")), (account.name, exchange)


@pytest.mark.parametrize("mode", MODES)
def test_each_writable_exchange_has_a_routing_key_pattern(mode: Mode) -> None:
    """Without one RabbitMQ allows every key."""
    exchanges = {name for topology in topologies(mode) for name in declarations.exchanges(topology)}
    for account in workers_of(mode):
        assert {name for name in exchanges if re.search(account.write, name)} == set(account.routing_keys)
        assert {kind for topology in topologies(mode) for kind in declarations.exchanges(topology).values()} == {"topic"}


@pytest.mark.parametrize("mode", MODES)
def test_a_worker_has_one_database_and_the_operator_all_of_its_mode(mode: Mode) -> None:
    workers = workers_of(mode)
    assert [account.databases for account in workers] == [(database_name(mode, account.worker),) for account in workers]
    assert set(account_of(mode, OPERATOR).databases) == {name for account in workers for name in account.databases}
