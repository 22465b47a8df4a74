"""Code shared by both bare chains: plain aio-pika as its documentation shows it, one process per service.

No database, outbox, inbox or retry: the simplest code for the flow, as the baseline of the comparison. Messages are the
product's own, so both sides carry the same bytes. Queues are quorum queues, messages persistent, publishes confirmed and
mandatory (aio-pika's default), and the prefetch count equals that of the product's workers.
"""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aio_pika
from aio_pika.abc import AbstractExchange, AbstractIncomingMessage, AbstractQueue

from broker.environment import new_uuid7
from broker.limits import Limits
from broker.message import Command, Message
from broker.topology import commands_exchange, events_exchange, queue_of
from services.payment.gateway import GatewayCall
from services.payment.gateway_http import HttpGateway
from services.payment.messages import Answer, AuthorizePayment, Verb
from services.vocabulary import ForwardEvent

BROKER_URL = os.environ.get("SAGA_BROKER_URL", "amqp://guest:guest@127.0.0.1:5672/")
GATEWAY_URL = os.environ.get("SAGA_GATEWAY_URL", "http://127.0.0.1:8090")


@dataclass(frozen=True)
class BareService:
    """One service's connection: the queue that it consumes and the two exchanges that it publishes to."""

    name: str
    queue: AbstractQueue
    commands: AbstractExchange
    events: AbstractExchange

    async def publish(self, message: Message, cause: AbstractIncomingMessage) -> None:
        """Publish and wait for the broker's confirm."""
        properties = aio_pika.Message(
            message.model_dump_json().encode(),
            content_type="application/json",
            delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
            message_id=new_uuid7(),
            correlation_id=message.order_id,
            type=message.type_name,
            timestamp=int(time.time()),
            app_id=self.name,
            headers={
                "version": message.version,
                "causation_id": cause.message_id,
                "traceparent": cause.headers["traceparent"],
            },
        )
        exchange = self.commands if isinstance(message, Command) else self.events
        await exchange.publish(properties, routing_key=message.type_name)


@asynccontextmanager
async def connect(prefix: str, name: str, consumes: Collection[type[Message]]) -> AsyncIterator[BareService]:
    """Connect, declare exchanges and queue, and bind the queue to the messages that this service consumes."""
    connection = await aio_pika.connect_robust(BROKER_URL)
    async with connection:
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=Limits().prefetch)
        commands = await channel.declare_exchange(commands_exchange(prefix), "topic", durable=True)
        events = await channel.declare_exchange(events_exchange(prefix), "topic", durable=True)
        queue = await channel.declare_queue(queue_of(prefix, name), durable=True, arguments={"x-queue-type": "quorum"})
        for kind in consumes:
            await queue.bind(commands if issubclass(kind, Command) else events, kind.type_name)
        yield BareService(name, queue, commands, events)


async def serve(service: BareService, handle: Callable[[AbstractIncomingMessage], Awaitable[None]]) -> None:
    """Consume until SIGTERM or SIGINT, several messages concurrently (aio-pika creates a task for each)."""
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    await service.queue.consume(handle)
    await stopped.wait()


async def authorize(gateway: HttpGateway, order: ForwardEvent | AuthorizePayment) -> None:
    """Call the payment gateway as the product's payment step does. Raises RuntimeError unless it authorizes."""
    call = GatewayCall(order.order_id, Verb.AUTHORIZE, order.details.total_cents, order.details.currency)
    answer = await gateway.call(call)
    if answer is not Answer.AUTHORIZED:
        raise RuntimeError(f"the gateway answered {answer}, and a bare chain cannot compensate")
