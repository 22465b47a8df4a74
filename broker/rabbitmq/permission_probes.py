"""Permission probes: attempts actions that an account should not be permitted on a broker.

For `saga doctor --security`. Each action uses a channel of its own, because RabbitMQ closes a channel at the first refusal. Apart
from `purge`, an action that is permitted has no lasting effect: a declared queue exists with the same options, consumed messages
return to their queue, and a published message is one that every worker refuses.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aio_pika
from yarl import URL

from broker.rabbitmq.connection import REQUEST_TIMEOUT_S, ControlChannel, Session, broker_request
from broker.transport import BrokerRefused, DeclarationDiffers, NotPermitted

#: Body of a published probe. It is not JSON: a worker that received it would dead-letter it.
BODY = b"probe"


class RabbitPermissionProbe:
    """One connection of one account. Each method returns whether the action is permitted; raises TransportError if unknown."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def consume(self, queue: str) -> bool:
        """Consume a queue; its messages return when the channel closes."""

        async def attempt(channel: ControlChannel) -> None:
            await channel.set_qos(prefetch_count=1)
            target = await channel.get_queue(queue, ensure=False)
            await target.cancel(await target.consume(_ignore))

        return await self._is_allowed(f"consuming {queue}", attempt)

    async def purge(self, queue: str) -> bool:
        """Purge a queue. Probe this only where consuming was refused: it needs the same permission and cannot be undone."""

        async def attempt(channel: ControlChannel) -> None:
            await (await channel.get_queue(queue, ensure=False)).purge()

        return await self._is_allowed(f"purging {queue}", attempt)

    async def declare(self, queue: str, arguments: Mapping[str, Any]) -> bool:
        """Declare a queue as it exists. Needs the configure permission, which also permits deleting it."""

        async def attempt(channel: ControlChannel) -> None:
            await channel.declare_queue(queue, durable=True, arguments=dict(arguments))

        return await self._is_allowed(f"declaring {queue}", attempt)

    async def declare_private(self) -> bool:
        """Declare a private queue, as a subscription to events would need."""

        async def attempt(channel: ControlChannel) -> None:
            await channel.declare_queue(exclusive=True, auto_delete=True)

        return await self._is_allowed("declaring a private queue", attempt)

    async def bind(self, queue: str, exchange: str, key: str) -> bool:
        """Bind a queue to an exchange, and unbind it."""

        async def attempt(channel: ControlChannel) -> None:
            target = await channel.get_queue(queue, ensure=False)
            await target.bind(exchange, key)
            await target.unbind(exchange, key)

        return await self._is_allowed(f"binding {queue} to {exchange}", attempt)

    async def publish(self, exchange: str, key: str, *, user: str | None = None) -> bool:
        """Publish a probe; `user`: the user id it claims. The default exchange ("") leads to any queue by its name."""

        async def attempt(channel: ControlChannel) -> None:
            target = await channel.get_exchange(exchange, ensure=False) if exchange else channel.default_exchange
            await target.publish(aio_pika.Message(BODY, user_id=user), key, mandatory=False)

        try:
            return await self._is_allowed(f"publishing {key} to {exchange or 'the default exchange'}", attempt)
        except DeclarationDiffers:  # RabbitMQ's error (PRECONDITION_FAILED) for a user id that is not the connection's
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
    """Connect with the account in `url`. Raises TransportError if the login is refused."""
    session = Session()
    await session.connect(URL(url).update_query(name=name), REQUEST_TIMEOUT_S)
    try:
        yield RabbitPermissionProbe(session)
    finally:
        await session.close()


async def accepts_login(url: str) -> bool:
    """Return whether the broker accepts the user and password in `url`. Raises TransportError if that remains unknown."""
    try:
        async with permission_probe(url, "probe"):
            return True
    except BrokerRefused:
        return False


async def _ignore(_: object) -> None:
    """Ignore a delivery, unsettled: it returns to its queue."""
