"""Misrouted messages: one whose type is not its routing key is dead-lettered, because its sender may lack the permission for it.

In memory, at every consumer of both modes; on a real broker in tests/broker/rabbitmq/test_least_privilege.py.
"""

import asyncio
from dataclasses import replace

import pytest

from bootstrap.modes import Mode
from broker.topology import queue_of, retry_exchange
from broker.transport import Delivery, Outgoing, Wire
from lab.system import System
from ops.dead_letters import dead_letters as letters_of
from ops.dead_letters import requeue
from tests.support.broker.transports import exhaust_deliveries
from tests.support.malformed_messages.sender import CONSUMERS, Sender, alone
from tests.support.system import dead_letters, in_memory


async def dead(system: System, worker: str, count: int) -> list[Wire]:
    async def are_dead() -> bool:
        return len(await dead_letters(system, worker)) >= count

    await system.wait_until(are_dead, "the forged message to be a dead letter", timeout_s=5.0)
    return await dead_letters(system, worker)


@pytest.mark.parametrize(("mode", "worker"), CONSUMERS)
def test_accepted_type_under_another_accepted_key_is_refused(mode: Mode, worker: str) -> None:
    async def play(system: System) -> None:
        await alone(system, worker)
        sender = Sender(system, worker)
        forged = sender.good("backward")
        (order_id,) = await sender.send(forged)
        (wire,) = await dead(system, worker, 1)
        key = system.client.topology.address_of(sender.kinds["forward"]).routing_key
        assert (wire.headers["dead_reason"], wire.headers["attempts"], wire.type) == ("misrouted", 1, forged.type)
        assert wire.headers["dead_detail"].startswith(f"the type is {forged.type!r}, but the message arrived through exchange ")
        assert wire.headers["dead_detail"].endswith(f"with routing key {key!r}")
        assert not await sender.handled(order_id)
        (order_id,) = await sender.send(sender.good())
        await system.wait_until(lambda: sender.handled(order_id), "the good message to be handled")

    in_memory(mode, play)


@pytest.mark.parametrize(("mode", "worker"), CONSUMERS)
def test_retry_is_accepted_only_under_its_own_queue_name(mode: Mode, worker: str) -> None:
    """A sender may name further queues in the CC header, and needs a permission for the first key only."""

    async def play(system: System) -> None:
        await alone(system, worker)
        sender, declared_topology = Sender(system, worker), system.client.topology
        broker_queue = system.backend.broker.queue(queue_of(declared_topology.prefix, worker))  # type: ignore[attr-defined]
        forged, good = sender.good(), sender.good()
        broker_queue.accept(forged, (retry_exchange(declared_topology.prefix), queue_of(declared_topology.prefix, "other")))
        (wire,) = await dead(system, worker, 1)
        assert (wire.message_id, wire.headers["dead_reason"]) == (forged.message_id, "misrouted")
        retry = Outgoing(declared_topology.retry_address(worker, 0), good)
        await system.client.transport.publish([retry])
        await system.wait_until(lambda: sender.handled(str(good.correlation_id)), "the retry to be handled")

    in_memory(mode, play)


@pytest.mark.parametrize(("mode", "worker"), CONSUMERS[:1])
def test_misrouted_message_is_not_requeued(mode: Mode, worker: str) -> None:
    """Requeued, it would arrive under the name of the queue, which is an accepted route."""

    async def play(system: System) -> None:
        await alone(system, worker)
        sender = Sender(system, worker)
        (order_id,) = await sender.send(sender.good("backward"))
        await dead(system, worker, 1)
        transport = system.backend.transport("other")
        await transport.open()
        assert await requeue(transport, system.client.topology, worker, lambda _: True) == []
        await asyncio.sleep(5.0)
        assert [letter.order_id for letter in await letters_of(transport, system.client.topology, [worker])] == [order_id]
        await transport.close()

    in_memory(mode, play)


@pytest.mark.parametrize(("mode", "worker"), CONSUMERS)
def test_broker_dead_letters_are_checked_before_a_requeue(mode: Mode, worker: str) -> None:
    """No worker has checked it; its route is in the history that the broker keeps."""

    async def play(system: System) -> None:
        await alone(system, worker)
        await system.stop(worker)
        sender, declared_topology = Sender(system, worker), system.client.topology
        forged, good, retried = sender.good("backward"), sender.good(), sender.good()
        transport = system.backend.transport("other")
        await transport.open()
        await sender.send(forged, good)
        await transport.publish([Outgoing(declared_topology.retry_address(worker, 0), retried)])
        await exhaust_deliveries(transport, declared_topology, worker, 3)
        letters = {letter.id: letter for letter in await letters_of(transport, declared_topology, [worker])}
        assert {message_id: letter.reason for message_id, letter in letters.items()} == {
            forged.message_id: "misrouted",
            good.message_id: "delivery_limit",
            retried.message_id: "delivery_limit",
        }
        assert str(letters[str(forged.message_id)].as_dict()["detail"]).startswith(
            f"the type is {forged.type!r}, but the message arrived"
        )
        requeued = await requeue(transport, declared_topology, worker, lambda _: True)
        assert {letter.id for letter in requeued} == {good.message_id, retried.message_id}
        await transport.close()
        await system.start(worker)
        for wire in good, retried:
            await system.wait_until(lambda: sender.handled(str(wire.correlation_id)), "the genuine message to be handled")  # noqa: B023
        assert not await sender.handled(str(forged.correlation_id))

    in_memory(mode, play)


@pytest.mark.parametrize("reason", ["poison_message", "wrong_version"])
def test_misrouted_takes_precedence_over_other_reasons(reason: str) -> None:
    """Otherwise an operator might requeue it: after a fix, or once its version is supported."""

    async def play(system: System) -> None:
        await alone(system, "inventory")
        sender = Sender(system, "inventory")
        forged = sender.good("backward")
        if reason == "wrong_version":
            forged = replace(forged, headers={**forged.headers, "version": 2})
            await sender.send(forged)
        else:
            route = (retry_exchange(system.client.topology.prefix), queue_of(system.client.topology.prefix, "other"))
            worker = system.running["inventory"].worker
            await worker.handle([Delivery(forged, True, 1, None, *route)], poison_ids={str(forged.message_id)})
        (wire,) = await dead(system, "inventory", 1)
        assert wire.headers["dead_reason"] == "misrouted"

    in_memory(Mode.ORCHESTRATOR, play)
