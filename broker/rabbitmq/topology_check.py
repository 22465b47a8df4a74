"""What exchanges and queues are on the broker, held against what a topology declares.

For instruments (`RabbitTransport.inspect`): by a user who may not declare, each piece costs a refusal in the
broker's log. Bindings are not seen: AMQP has no word to ask for them.
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

#: A channel of its own for one job: RabbitMQ closes a channel at the first thing that it dislikes.
ChannelFactory = Callable[[], AbstractAsyncContextManager[ControlChannel]]


@dataclass(frozen=True, slots=True)
class DeclaredObject:
    """One exchange or queue. `fault`: QueueMissing or DeclarationDiffers; None when it is as it should be.

    `compared`: False when this user may only see that it is there. An exchange counts nothing."""

    name: str
    fault: UnsafeTopology | None
    messages: int = 0
    consumers: int = 0
    compared: bool = True


async def inspect(open_channel: ChannelFactory, topology: Topology) -> list[DeclaredObject]:
    """Every exchange and queue that `topology` declares, as it is there; nothing is changed."""
    exchanges, queues = declarations.exchanges(topology).items(), declarations.queues(topology)
    objects = [await _check_object(name, partial(_exchange, open_channel, name, kind)) for name, kind in exchanges]
    return objects + [await _check_object(spec.name, partial(_queue, open_channel, spec)) for spec in queues]


async def _check_object(name: str, declare: Callable[[bool], Awaitable[tuple[int, int]]]) -> DeclaredObject:
    """A passive declaration sees only that the name is there; to declare what is there compares it (and makes nothing)."""
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
    async with open_channel() as channel, broker_request(f"looking at exchange {name}"):
        await channel.declare_exchange(name, kind, durable=True, passive=passive)
        return 0, 0


async def _queue(open_channel: ChannelFactory, spec: QueueSpec, passive: bool) -> tuple[int, int]:
    """Messages and consumers."""
    async with open_channel() as channel, broker_request(f"looking at queue {spec.name}"):
        queue = await channel.declare_queue(spec.name, durable=True, passive=passive, arguments=dict(spec.arguments))
        return queue.declaration_result.message_count or 0, queue.declaration_result.consumer_count or 0
