"""A message that says it is of another type than its routing key is a dead letter: its sender may have had the right to that key
only.

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

    await system.wait_until(are_dead, "what is forged to be a dead letter", timeout_s=5.0)
    return await dead_letters(system, worker)


@pytest.mark.parametrize(("mode", "worker"), CONSUMERS)
def test_another_type_that_this_consumer_takes_is_refused_behind_a_routing_key_that_it_takes_too(mode: Mode, worker: str) -> None:
    async def play(system: System) -> None:
        await alone(system, worker)
        sender = Sender(system, worker)
        forged = sender.good("backward")
        (order_id,) = await sender.send(forged)
        (wire,) = await dead(system, worker, 1)
        key = system.client.topology.address_of(sender.kinds["forward"]).routing_key
        assert (wire.headers["dead_reason"], wire.headers["attempts"], wire.type) == ("misrouted", 1, forged.type)
        assert wire.headers["dead_detail"].startswith(f"it says that it is {forged.type!r}, and came by exchange ")
        assert wire.headers["dead_detail"].endswith(f"with routing key {key!r}")
        assert not await sender.handled(order_id)
        (order_id,) = await sender.send(sender.good())
        await system.wait_until(lambda: sender.handled(order_id), "the good message to be handled")

    in_memory(mode, play)


@pytest.mark.parametrize(("mode", "worker"), CONSUMERS)
def test_what_was_put_aside_is_taken_by_its_own_workers_name_and_by_no_other(mode: Mode, worker: str) -> None:
    """A sender may send on to several queues (the CC header), and needs a right for the first only."""

    async def play(system: System) -> None:
        await alone(system, worker)
        sender, declared_topology = Sender(system, worker), system.client.topology
        broker_queue = system.backend.broker.queue(queue_of(declared_topology.prefix, worker))  # type: ignore[attr-defined]
        forged, good = sender.good(), sender.good()
        broker_queue.accept(forged, (retry_exchange(declared_topology.prefix), queue_of(declared_topology.prefix, "somebody")))
        (wire,) = await dead(system, worker, 1)
        assert (wire.message_id, wire.headers["dead_reason"]) == (forged.message_id, "misrouted")
        retry = Outgoing(declared_topology.retry_address(worker, 0), good)
        await system.client.transport.publish([retry])
        await system.wait_until(lambda: sender.handled(str(good.correlation_id)), "what comes back to be handled")

    in_memory(mode, play)


@pytest.mark.parametrize(("mode", "worker"), CONSUMERS[:1])
def test_a_misrouted_message_is_not_sent_back_to_work(mode: Mode, worker: str) -> None:
    """It would come back by the name of the queue, as if somebody had vouched for it."""

    async def play(system: System) -> None:
        await alone(system, worker)
        sender = Sender(system, worker)
        (order_id,) = await sender.send(sender.good("backward"))
        await dead(system, worker, 1)
        transport = system.backend.transport("somebody")
        await transport.open()
        assert await requeue(transport, system.client.topology, worker, lambda _: True) == []
        await asyncio.sleep(5.0)
        assert [letter.order_id for letter in await letters_of(transport, system.client.topology, [worker])] == [order_id]
        await transport.close()

    in_memory(mode, play)


@pytest.mark.parametrize(("mode", "worker"), CONSUMERS)
def test_what_the_broker_itself_gave_up_is_judged_before_it_is_sent_back_to_work(mode: Mode, worker: str) -> None:
    """No worker has seen it; where it came from stands in the history that the broker keeps."""

    async def play(system: System) -> None:
        await alone(system, worker)
        await system.stop(worker)
        sender, declared_topology = Sender(system, worker), system.client.topology
        forged, good, retried = sender.good("backward"), sender.good(), sender.good()
        transport = system.backend.transport("somebody")
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
            f"it says that it is {forged.type!r}, and came"
        )
        back = await requeue(transport, declared_topology, worker, lambda _: True)
        assert {letter.id for letter in back} == {good.message_id, retried.message_id}
        await transport.close()
        await system.start(worker)
        for wire in good, retried:
            await system.wait_until(lambda: sender.handled(str(wire.correlation_id)), "what is genuine to be handled")  # noqa: B023
        assert not await sender.handled(str(forged.correlation_id))

    in_memory(mode, play)


@pytest.mark.parametrize("reason", ["poison_message", "wrong_version"])
def test_what_is_refused_for_another_reason_too_is_misrouted_first(reason: str) -> None:
    """Else it would be sent back to work one day: after a repair, or when its version is spoken."""

    async def play(system: System) -> None:
        await alone(system, "inventory")
        sender = Sender(system, "inventory")
        forged = sender.good("backward")
        if reason == "wrong_version":
            forged = replace(forged, headers={**forged.headers, "version": 2})
            await sender.send(forged)
        else:
            way = (retry_exchange(system.client.topology.prefix), queue_of(system.client.topology.prefix, "somebody"))
            worker = system.running["inventory"].worker
            await worker.handle([Delivery(forged, True, 1, None, *way)], poison_ids={str(forged.message_id)})
        (wire,) = await dead(system, "inventory", 1)
        assert wire.headers["dead_reason"] == "misrouted"

    in_memory(Mode.ORCHESTRATOR, play)
