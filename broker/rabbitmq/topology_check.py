"""Compares the exchanges and queues on the broker with those that a topology declares.

For diagnostic tools (`RabbitTransport.inspect`): with an account that may not declare, each object causes a refusal in the
broker's log. Bindings are not compared: AMQP has no method to list them.
"""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import partial

from broker import declarations
from broker.declarations import QueueSpec
from broker.rabbitmq.connection import ControlChannel, broker_request
from broker.topology import Topology
from broker.transport import DeclarationDiffers, NotPermitted, QueueMissing, UnsafeTopology

#: Opens a channel for one request: RabbitMQ closes a channel at the first error.
ChannelFactory = Callable[[], AbstractAsyncContextManager[ControlChannel]]


@dataclass(frozen=True, slots=True)
class DeclaredObject:
    """One exchange or queue. `fault`: QueueMissing or DeclarationDiffers; None if it is as declared.

    `compared`: False if the account may only check that the object exists. `messages` and `consumers` are 0 for an exchange."""

    name: str
    fault: UnsafeTopology | None
    messages: int = 0
    consumers: int = 0
    compared: bool = True


async def inspect(open_channel: ChannelFactory, topology: Topology) -> list[DeclaredObject]:
    """Return the state of every exchange and queue that `topology` declares; changes nothing."""
    exchanges, queues = declarations.exchanges(topology).items(), declarations.queues(topology)
    objects = [await _check_object(name, partial(_exchange, open_channel, name, kind)) for name, kind in exchanges]
    return objects + [await _check_object(spec.name, partial(_queue, open_channel, spec)) for spec in queues]


async def _check_object(name: str, declare: Callable[[bool], Awaitable[tuple[int, int]]]) -> DeclaredObject:
    """Check that the object exists by a passive declaration, then compare its options by an active one, which creates nothing."""
    messages = consumers = 0
    try:
        messages, consumers = await declare(True)
        await declare(False)
    except (QueueMissing, DeclarationDiffers) as fault:
        return DeclaredObject(name, fault, messages, consumers)
    except NotPermitted:
        return DeclaredObject(name, None, messages, consumers, compared=False)
    return DeclaredObject(name, None, messages, consumers)


async def _exchange(open_channel: ChannelFactory, name: str, kind: str, passive: bool) -> tuple[int, int]:
    async with open_channel() as channel, broker_request(f"checking exchange {name}"):
        await channel.declare_exchange(name, kind, durable=True, passive=passive)
        return 0, 0


async def _queue(open_channel: ChannelFactory, spec: QueueSpec, passive: bool) -> tuple[int, int]:
    """Return the numbers of messages and consumers."""
    async with open_channel() as channel, broker_request(f"checking queue {spec.name}"):
        queue = await channel.declare_queue(spec.name, durable=True, passive=passive, arguments=dict(spec.arguments))
        return queue.declaration_result.message_count or 0, queue.declaration_result.consumer_count or 0
