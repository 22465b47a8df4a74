"""Tries at a broker what an account may not: each act on a channel of its own, because RabbitMQ closes one at the first refusal.

For `saga doctor --security`. An act that is allowed after all changes nothing that lasts: what is declared exists
already alike, what is consumed goes back, and what is published is no message that a worker would take.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aio_pika
from yarl import URL

from broker.rabbitmq.connection import REQUEST_TIMEOUT_S, ControlChannel, Session, broker_request
from broker.transport import BrokerRefused, DeclarationDiffers, NotPermitted

#: What is published is not JSON: a queue that it reached would have one more dead letter.
BODY = b"probe"


class RabbitPermissionProbe:
    """One connection of one account. Each act gives True if it was allowed; raises TransportError when that remains unknown."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def consume(self, queue: str) -> bool:
        """Take messages from a queue; they go back when the channel closes."""

        async def attempt(channel: ControlChannel) -> None:
            await channel.set_qos(prefetch_count=1)
            target = await channel.get_queue(queue, ensure=False)
            await target.cancel(await target.consume(_ignore))

        return await self._is_allowed(f"consuming {queue}", attempt)

    async def purge(self, queue: str) -> bool:
        """Empty a queue. To be tried only where consuming was refused: it takes the same right, and this cannot be undone."""

        async def attempt(channel: ControlChannel) -> None:
            await (await channel.get_queue(queue, ensure=False)).purge()

        return await self._is_allowed(f"purging {queue}", attempt)

    async def declare(self, queue: str, arguments: Mapping[str, Any]) -> bool:
        """Declare a queue as it is already: takes the right to configure it, to delete it too."""

        async def attempt(channel: ControlChannel) -> None:
            await channel.declare_queue(queue, durable=True, arguments=dict(arguments))

        return await self._is_allowed(f"declaring {queue}", attempt)

    async def declare_private(self) -> bool:
        """Make a queue of its own, which a subscription to others' events would need."""

        async def attempt(channel: ControlChannel) -> None:
            await channel.declare_queue(exclusive=True, auto_delete=True)

        return await self._is_allowed("declaring a private queue", attempt)

    async def bind(self, queue: str, exchange: str, key: str) -> bool:
        """Have a queue hear more, and no longer."""

        async def attempt(channel: ControlChannel) -> None:
            target = await channel.get_queue(queue, ensure=False)
            await target.bind(exchange, key)
            await target.unbind(exchange, key)

        return await self._is_allowed(f"binding {queue} to {exchange}", attempt)

    async def publish(self, exchange: str, key: str, *, user: str | None = None) -> bool:
        """Publish what is no message; `user`: who it says it is from. The nameless exchange leads to any queue by its name."""

        async def attempt(channel: ControlChannel) -> None:
            target = await channel.get_exchange(exchange, ensure=False) if exchange else channel.default_exchange
            await target.publish(aio_pika.Message(BODY, user_id=user), key, mandatory=False)

        try:
            return await self._is_allowed(f"publishing {key} to {exchange or 'the default exchange'}", attempt)
        except DeclarationDiffers:  # RabbitMQ's word for a user id that is not the connection's
            if user is None:
                raise
            return False

    async def _is_allowed(self, action: str, attempt: Callable[[ControlChannel], Awaitable[None]]) -> bool:
        try:
            async with broker_request(action):
                channel = await self._session.open_channel(confirms=True)
                await attempt(channel)
                await channel.close()
        except NotPermitted:
            return False
        return True


@asynccontextmanager
async def permission_probe(url: str, name: str) -> AsyncIterator[RabbitPermissionProbe]:
    """A connection of the account that `url` names. Raises TransportError when it is not let in."""
    session = Session()
    await session.connect(URL(url).update_query(name=name), REQUEST_TIMEOUT_S)
    try:
        yield RabbitPermissionProbe(session)
    finally:
        await session.close()


async def accepts_login(url: str) -> bool:
    """Whether the broker takes this user and password. Raises TransportError when there is no telling."""
    try:
        async with permission_probe(url, "probe"):
            return True
    except BrokerRefused:
        return False


async def _ignore(_: object) -> None:
    """Settles nothing: what was delivered goes back."""
