"""Least privilege: RabbitMQ's permissions on routing keys extend to message types, and are all that a worker needs.

The toy service's workers on a real broker, each with an account of its own; their databases are in memory.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from uuid import uuid4

import aio_pika
import pytest
from aiormq.exceptions import AMQPError, ChannelAccessRefused

from broker.codec import Origin, encode
from broker.environment import Environment
from broker.memory.transport import MemoryBroker, MemoryTransport
from broker.message import Message
from broker.rabbitmq import connection
from broker.rabbitmq.transport import RabbitTransport
from broker.role import Role, Service, topology_of
from broker.topology import (
    RETRY_LEVELS_S,
    Address,
    Topology,
    commands_exchange,
    dead_queue,
    delay_queue,
    events_exchange,
    queue_of,
    retry_exchange,
)
from broker.transport import (
    DeclarationDiffers,
    NotPermitted,
    Outgoing,
    Receipt,
    Transport,
    TransportError,
    Wire,
    declare_or_check,
)
from broker.worker import Worker
from ops.dead_letters import dead_letters, requeue
from store.memory import MemoryDatabase, MemoryStore
from tests.support.broker.transports import Deliveries, exhaust_deliveries
from tests.support.broker.users import NOTHING, lent
from tests.support.toy_service import Entry, How, PutIn, WasPutIn, roles
from tests.support.wait import until

ENVIRONMENT = Environment()


class Site:
    """The toy service's topology on a real broker under a prefix of its own, with an administrator's client."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.declared_topology = topology_of(f"t{uuid4().hex[:8]}", roles().values())
        self.prefix = self.declared_topology.prefix
        self.admin = RabbitTransport(url, "tests")

    @contextmanager
    def user(self, worker: str, *, commands: str = NOTHING) -> Iterator[str]:
        """Create an account with the permissions that a worker needs, and yield the broker's URL with it.

        It reads the worker's queue, publishes the worker's events and the `commands` (a pattern of types), and republishes
        to its own delay queues and dead letters."""
        queue = queue_of(self.prefix, worker)
        keys = {commands_exchange(self.prefix): commands, events_exchange(self.prefix): rf"^{worker}\."}
        keys |= {retry_exchange(self.prefix): f"^{dead_queue(queue)}$"}
        keys |= {delay_queue(self.prefix, level): f"^{queue}$" for level in range(len(RETRY_LEVELS_S))}
        with lent(self.url, read=f"^{queue}$", write=rf"^{self.prefix}\.(commands|events|retry|delay\..)$", keys=keys) as url:
            yield url

    @asynccontextmanager
    async def client(self, url: str) -> AsyncIterator[RabbitTransport]:
        client = RabbitTransport(url, "tests", confirm_timeout_s=1.0)
        await client.open()
        try:
            yield client
        finally:
            await client.close()

    @asynccontextmanager
    async def working(self, role: Role, url: str) -> AsyncIterator[MemoryStore]:
        """Run a worker, and yield its database."""
        store = MemoryStore(MemoryDatabase())
        async with self.client(url) as transport:
            await declare_or_check(transport, self.declared_topology)
            worker = Worker(role, self.declared_topology, transport, store)
            running = asyncio.create_task(worker.run())
            try:
                yield store
            finally:
                worker.stop()
                await running

    async def dead(self, worker: str, count: int, timeout_s: float = 10.0) -> list[Wire]:
        """Wait until a worker has at least `count` dead letters, and return them."""
        queue = dead_queue(queue_of(self.prefix, worker))

        async def are_there() -> bool:
            return await self.admin.depth(queue) >= count

        await until(are_there, f"{count} dead letters in {queue}", timeout_s)
        return await self.admin.get(queue, 100)


@pytest.fixture
async def site(rabbit_url: str) -> AsyncIterator[Site]:
    made = Site(rabbit_url)
    await made.admin.open()
    await made.admin.declare(made.declared_topology)
    yield made
    await made.admin.delete(made.declared_topology)
    await made.admin.close()


def wire(message: Message) -> Wire:
    return encode(message, message_id=ENVIRONMENT.new_id(), now=ENVIRONMENT.now(), app_id="tests", origin=Origin())


def put_in(how: How = How.WELL) -> Wire:
    return wire(PutIn(order_id=ENVIRONMENT.new_id(), amount=1, how=how))


def was_put_in() -> Wire:
    return wire(WasPutIn(order_id=ENVIRONMENT.new_id(), amount=1))


async def entries(store: MemoryStore) -> set[str]:
    return {record.document_id for record in await store.find(Entry.collection)}


async def has_entered(store: MemoryStore, event: Wire) -> None:
    async def entered() -> bool:
        return event.correlation_id in await entries(store)

    await until(entered, "the genuine event is handled")


@pytest.mark.real
async def test_worker_needs_no_more_than_its_permissions(site: Site) -> None:
    received: list[Wire] = []
    await site.admin.subscribe(site.declared_topology, ["#"], received.append)
    with site.user("till") as url:
        async with site.working(roles()["till"], url):
            well, raises, violates = put_in(), put_in(How.RAISES), put_in(How.VIOLATES)
            to = site.declared_topology.address_of(PutIn)
            await site.admin.publish([Outgoing(to, wire) for wire in (well, raises, violates)])
            letters = await site.dead("till", 2, timeout_s=30.0)
    reasons = {letter.message_id: (letter.headers["dead_reason"], letter.headers["attempts"]) for letter in letters}
    assert reasons == {violates.message_id: ("protocol_violation", 1), raises.message_id: ("attempts_exhausted", 5)}
    assert [(event.type, event.correlation_id) for event in received] == [("till.WasPutIn", well.correlation_id)]


@pytest.mark.real
async def test_permission_for_some_routing_keys_excludes_others(site: Site) -> None:
    stock = Deliveries()
    for worker in roles():
        await site.admin.consume(queue_of(site.prefix, worker), 10, stock)
    till, bell = queue_of(site.prefix, "till"), queue_of(site.prefix, "bell")
    with site.user("bell") as url, site.user("bell", commands=r"^till\.PutIn$") as sender:
        foreign = [
            site.declared_topology.address_of(PutIn),
            site.declared_topology.address_of(WasPutIn),
            Address("", till, mandatory=True),
        ]
        foreign += [site.declared_topology.retry_address("till", 0), site.declared_topology.dead_address("till")]
        foreign += [Address(retry_exchange(site.prefix), key, mandatory=True) for key in (till, bell)]
        for address in foreign:  # a client for each, because a refusal closes its channel
            async with site.client(url) as client:
                assert await client.publish([Outgoing(address, put_in())]) == [Receipt.UNKNOWN], address
        async with site.client(sender) as client:
            own = [site.declared_topology.address_of(PutIn), site.declared_topology.retry_address("bell", 0)]
            assert await client.publish([Outgoing(address, put_in()) for address in own]) == [Receipt.CONFIRMED] * 2
    await stock.reach(2)
    assert {delivery.routing_key for delivery in stock} == {"till.PutIn", bell}


@pytest.mark.real
async def test_forged_type_behind_a_permitted_key_is_refused(site: Site) -> None:
    """A queue bound to two types, and a sender permitted to use one of their keys."""
    ledger = roles()["ledger"].service
    both = Role(ledger, {WasPutIn: lambda event: event, PutIn: lambda put: WasPutIn(order_id=put.order_id, amount=put.amount)})
    site.declared_topology = topology_of(site.prefix, (roles() | {"ledger": both}).values())
    await site.admin.declare(site.declared_topology)
    with site.user("ledger") as url, site.user("bell", commands=r"^till\.PutIn$") as sender:
        async with site.working(both, url) as store, site.client(sender) as client:
            to, forged, genuine = site.declared_topology.address_of(PutIn), was_put_in(), put_in()
            assert await client.publish([Outgoing(to, forged), Outgoing(to, genuine)]) == [Receipt.CONFIRMED] * 2
            await has_entered(store, genuine)
            (letter,) = await site.dead("ledger", 1)
            assert await entries(store) == {genuine.correlation_id}
    assert (letter.message_id, letter.headers["dead_reason"]) == (forged.message_id, "misrouted")
    route = f"exchange '{commands_exchange(site.prefix)}' with routing key 'till.PutIn'"
    assert letter.headers["dead_detail"] == f"the type is 'till.WasPutIn', but the message arrived through {route}"


@pytest.mark.real
@pytest.mark.parametrize("through", ["events", "delay", "dead"])
async def test_message_routed_by_its_cc_header_is_refused(site: Site, through: str) -> None:
    """RabbitMQ 3.10 checks the permission for the first key only; 4.0 refuses the message."""
    prefix, ledger = site.prefix, queue_of(site.prefix, "ledger")
    way, on = {
        "events": (Address(events_exchange(prefix), "bell.Rang", mandatory=False), "till.WasPutIn"),
        "delay": (site.declared_topology.retry_address("bell", 0), ledger),
        "dead": (site.declared_topology.dead_address("bell"), ledger),
    }[through]
    with site.user("ledger") as url, site.user("bell") as sender:
        async with site.working(roles()["ledger"], url) as store:
            forged = was_put_in()
            try:
                await publish_with_cc(sender, way, forged, on)
            except ChannelAccessRefused:
                pass  # refused by the broker
            else:
                (letter,) = await site.dead("ledger", 1)
                assert (letter.message_id, letter.headers["dead_reason"]) == (forged.message_id, "misrouted")
            genuine = was_put_in()
            await site.admin.publish([Outgoing(site.declared_topology.address_of(WasPutIn), genuine)])
            await has_entered(store, genuine)
            assert await entries(store) == {genuine.correlation_id}


@pytest.mark.real
async def test_dead_letter_does_not_keep_its_cc_header(site: Site) -> None:
    """It would be routed and dead-lettered again, without end."""
    with site.user("ledger") as url:
        async with site.working(roles()["ledger"], url) as store:
            forged, genuine = was_put_in(), was_put_in()
            await publish_with_cc(site.url, site.declared_topology.dead_address("bell"), forged, queue_of(site.prefix, "ledger"))
            await site.dead("ledger", 1)
            retry = Outgoing(site.declared_topology.retry_address("ledger", 0), genuine)
            await site.admin.publish([retry])  # takes longer than another routing would
            await has_entered(store, genuine)
            assert [letter.message_id for letter in await site.dead("ledger", 1)] == [forged.message_id]


@pytest.mark.real
async def test_broker_dead_letter_is_found_misrouted_by_its_history(site: Site) -> None:
    to, forged, genuine = site.declared_topology.address_of(PutIn), was_put_in(), put_in()
    assert await site.admin.publish([Outgoing(to, forged), Outgoing(to, genuine)]) == [Receipt.CONFIRMED] * 2
    await exhaust_deliveries(site.admin, site.declared_topology, "till", 2)
    letters = await dead_letters(site.admin, site.declared_topology, ["till"])
    assert {letter.id: letter.reason for letter in letters} == {
        forged.message_id: "misrouted",
        genuine.message_id: "delivery_limit",
    }
    async with site.client(site.url) as client:
        (back,) = await requeue(client, site.declared_topology, "till", lambda _: True)
    assert back.id == genuine.message_id


async def publish_with_cc(url: str, way: Address, wire: Wire, on: str) -> None:
    """Publish with a CC header, which `RabbitTransport` never sends."""
    async with await aio_pika.connect(url) as connection, connection.channel() as channel:
        exchange = await channel.get_exchange(way.exchange, ensure=False)
        headers = {**wire.headers, "CC": [on]}
        message = aio_pika.Message(
            wire.body,
            headers=headers,
            message_id=wire.message_id,
            correlation_id=wire.correlation_id,
            type=wire.type,
            content_type=wire.content_type,
        )
        await exchange.publish(message, way.routing_key, mandatory=False)


# --- starting without the permission to declare ---------------------------------------------------------------------------


@pytest.mark.real
async def test_account_without_declare_fails_only_if_something_is_missing(site: Site) -> None:
    with site.user("till") as url:
        async with site.client(url) as client:
            await declare_or_check(client, site.declared_topology)
            more = topology_of(site.prefix, [*roles().values(), Role(Service("more", {}), {})])
            with pytest.raises(NotPermitted, match="An administrator must declare the topology"):
                await declare_or_check(client, more)
            await declare_or_check(client, site.declared_topology)


@pytest.mark.real
async def test_account_without_declare_is_refused_once_per_start(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each refusal closes a channel, and is an error in the broker's log."""
    refused: list[TransportError] = []
    translate = connection._translate

    def noted(action: str, error: AMQPError) -> TransportError:
        refused.append(translate(action, error))
        return refused[-1]

    monkeypatch.setattr(connection, "_translate", noted)
    with site.user("till") as url:
        async with site.client(url) as client:
            await declare_or_check(client, site.declared_topology)
    assert [type(error) for error in refused] == [NotPermitted]


class NoDeclareTransport(MemoryTransport):
    """The transport of an account without the permission to declare."""

    async def declare(self, topology: Topology) -> None:
        raise NotPermitted(f"declaring {topology.prefix}: not allowed")


async def test_missing_topology_that_may_not_be_declared_is_refused_in_memory() -> None:
    broker, declared_topology = MemoryBroker(), topology_of("toy", roles().values())
    restricted, admin = NoDeclareTransport(broker), MemoryTransport(broker)
    await restricted.open()
    await admin.open()
    with pytest.raises(NotPermitted, match="not allowed"):
        await declare_or_check(restricted, declared_topology)
    await declare_or_check(admin, declared_topology)
    await declare_or_check(restricted, declared_topology)


async def test_different_declaration_is_refused_in_memory() -> None:
    broker = MemoryBroker()
    transport: Transport = MemoryTransport(broker)
    await transport.open()
    declared_topology = topology_of("toy", roles().values())
    await declare_or_check(transport, declared_topology)
    with pytest.raises(DeclarationDiffers):
        await declare_or_check(transport, replace(declared_topology, delivery_limit=3))
